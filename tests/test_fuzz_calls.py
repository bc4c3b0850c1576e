"""The fuzzer of calls: some of them, and that it finds what it looks for. `make fuzz-calls` makes 100,000."""

import pytest
import torch
from fuzz_calls.run import main

#: Kernels of another library, of which each call breaks, dies or hangs.
FAULTS = """
import os, signal, time
import torch

def breaks(x):
    raise RuntimeError("a Rust kernel panicked")

def dies(x):
    os.kill(os.getpid(), signal.SIGSEGV)

def hangs(x):
    time.sleep(100)

library = torch.library.Library("faulty", "DEF")
for kernel in (breaks, dies, hangs):
    library.define(f"{kernel.__name__}(Tensor x) -> Tensor")
    library.impl(kernel.__name__, kernel, "PrivateUse1")
"""


@pytest.fixture
def without_records(tmp_path):
    """No recorded calls: making them takes a minute."""
    path = tmp_path / "recorded"
    torch.save({}, path)
    return ["--recorded", str(path)]


def test_drawn_calls_are_made_or_refused(without_records, capfd):
    assert main([*without_records, "--calls", "500"]) == 0
    assert "500 calls, 0 that" in capfd.readouterr().out


def test_faults_are_found(without_records, tmp_path, monkeypatch, capfd):
    (tmp_path / "faulty_kernels.py").write_text(FAULTS)
    monkeypatch.syspath_prepend(tmp_path)
    # This seed draws each of them once.
    options = ["--load", "faulty_kernels", "--only", "faulty::", "--seed", "28", "--patience", "1", "--calls", "3"]
    assert main([*without_records, *options]) == 1
    said = capfd.readouterr().out
    for found, kernel in (("broken: ", "breaks"), ("SIGSEGV: ", "dies"), ("took too long: ", "hangs")):
        assert any(line.startswith(found) and f"faulty.{kernel}.default(" in line for line in said.splitlines()), said
