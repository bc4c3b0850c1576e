"""`python -m rustorch_device.collect_env` says what a report should say."""

import sys

import pytest
import torch

from rustorch_device import __main__ as commands
from rustorch_device import _load, collect_env


def said(capsys) -> dict[str, str]:
    assert collect_env.main([]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    return {line[:28].strip(): line[28:].strip() for line in lines}


def test_it_says_what_is_there(capsys, monkeypatch):
    monkeypatch.setenv("RUSTORCH_FALLBACK", "error")
    lines = said(capsys)
    assert lines["torch"] == torch.__version__
    assert lines["device"].startswith("rustorch:0, ")
    assert lines["SIMD level"] in ("scalar", "avx2", "avx512")
    assert lines["threads"].split()[0] == str(torch.get_num_threads())
    assert lines["fallback policy"] == lines["RUSTORCH_FALLBACK"] == "error"
    assert lines["current accelerator"] == "rustorch"


def test_it_lists_libraries_with_their_switch(capsys, monkeypatch):
    monkeypatch.setattr(
        collect_env, "version", lambda name: "7.8" if name in ("accelerate", "rustorch-device") else None
    )
    lines = said(capsys)
    assert lines["accelerate 7.8"] == "import rustorch_device.integrations.accelerate"
    assert "timm" in lines["not installed"] and "accelerate" not in lines["not installed"]


def test_a_device_that_does_not_load_is_said(capsys, monkeypatch):
    def fail() -> None:
        raise _load.NotLoaded("its native part does not load.")

    monkeypatch.setattr(_load, "load", fail)
    assert said(capsys)["device"] == "does not load: its native part does not load."


@pytest.mark.parametrize("report", sorted(_load.REPORTS))
def test_reports_are_commands_and_load_the_device_themselves(report, monkeypatch, capsys):
    loaded = []
    monkeypatch.setattr(_load, "load", lambda: loaded.append(1))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", report])
    _load.load_explicitly()
    assert not loaded
    assert commands.main([]) == 0
    assert report.removeprefix("rustorch_device.") in capsys.readouterr().out
