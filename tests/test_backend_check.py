"""The smoke test passes here, and says what is wrong where something is."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from rustorch_device import _load, backend_check

ROOT = Path(__file__).resolve().parent.parent


def run(**environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "rustorch_device.backend_check"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_it_passes():
    check = run(RUSTORCH_FALLBACK="error")
    assert check.returncode == 0, check.stdout + check.stderr
    assert "rustorch works" in check.stdout
    assert torch.__version__ in check.stdout
    assert "SIMD level" in check.stdout
    assert "registered as rustorch:0" in check.stdout
    assert "registered as rust_backend" in check.stdout
    assert "CNN compiled, on rustorch" in check.stdout


def test_it_passes_without_autoload():
    check = run(RUSTORCH_AUTOLOAD="0")
    assert check.returncode == 0, check.stdout + check.stderr
    assert "no: RUSTORCH_AUTOLOAD=0 or" in check.stdout


def test_a_device_that_does_not_load(tmp_path):
    """The extension is hidden by one that cannot be loaded."""
    hider = "import sys; sys.modules['rustorch_device._C'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(hider)
    check = run(PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert check.returncode == 1
    assert "rustorch does not work: the device does not load" in check.stderr
    assert "pip install" in check.stderr
    assert "Traceback" not in check.stderr


def problem(capsys) -> str:
    assert backend_check.main([]) == 1
    return capsys.readouterr().err


def test_another_torch(capsys, monkeypatch):
    def load():
        raise _load.NotLoaded("it is built for torch 2.15, and this is torch 2.99.0.")

    monkeypatch.setattr(_load, "load", load)
    assert "this is torch 2.99.0" in problem(capsys)


def test_a_package_that_is_not_installed(capsys, monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert "the package is not installed" in problem(capsys)


def test_missing_entry_points(capsys, monkeypatch):
    monkeypatch.setattr(metadata, "entry_points", lambda **_: ())
    assert "entry points are not installed" in problem(capsys)


def test_a_backend_that_is_not_registered(capsys, monkeypatch):
    monkeypatch.setattr(torch._dynamo, "list_backends", lambda **_: ["inductor"])
    assert '"rust_backend" is not registered' in problem(capsys)


@pytest.mark.parametrize("wrong", [1.0, float("nan")])
def test_results_that_differ(capsys, monkeypatch, wrong):
    right = backend_check.loss_and_gradients

    def off(model, inputs, backend):
        values = right(model, inputs, backend)
        return values if backend is None else [value + wrong for value in values]

    monkeypatch.setattr(backend_check, "loss_and_gradients", off)
    assert "is more than rounding" in problem(capsys)


def test_a_step_that_raises(capsys, monkeypatch):
    right = backend_check.loss_and_gradients

    def failing(model, inputs, backend):
        if backend is not None:
            raise RuntimeError("no such kernel")
        return right(model, inputs, backend)

    monkeypatch.setattr(backend_check, "loss_and_gradients", failing)
    assert "RuntimeError: no such kernel" in problem(capsys)
