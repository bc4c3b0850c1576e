"""The device is there after `import torch`, and never in the way."""

import pytest
import torch

from rustorch_device import _load

WORKS = "print(torch.zeros(2, device='rustorch').cpu().tolist())"


def test_import_torch_is_enough(python):
    done = python(f"import torch; {WORKS}")
    assert done.stdout == "[0.0, 0.0]\n", done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize(
    "environment", [{"RUSTORCH_AUTOLOAD": "0"}, {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}], ids=lambda e: next(iter(e))
)
def test_autoload_can_be_turned_off_and_the_package_imported_all_the_same(python, environment):
    done = python(f"import torch; print(hasattr(torch, 'rustorch')); import rustorch_device; {WORKS}", **environment)
    assert done.stdout == "False\n[0.0, 0.0]\n", done.stderr


@pytest.mark.parametrize("autoload", ["", "0", "1"])
def test_the_package_may_be_imported_before_torch(python, autoload):
    done = python(f"import rustorch_device, torch; {WORKS}", RUSTORCH_AUTOLOAD=autoload)
    assert done.stdout == "[0.0, 0.0]\n", done.stderr


def test_loading_twice_is_loading_once():
    _load.load()
    _load.autoload()
    assert torch.rustorch.device_count() == 1


def test_another_torch_is_refused_with_what_to_do():
    with pytest.raises(ImportError, match=r"built for torch 2\.15, and this is torch 2\.14\.1.*Install torch==2\.15"):
        _load._check_version("2.14.1")
    _load._check_version("2.15.3+cpu")


def test_another_package_that_holds_the_place_is_named(python):
    done = python(
        "import torch; torch.utils.rename_privateuse1_backend('other')\n"
        "try: import rustorch_device\n"
        "except ImportError as error: print(error)",
        TORCH_DEVICE_BACKEND_AUTOLOAD="0",
    )
    assert "another package's device, 'other'" in done.stdout, done.stderr


def test_a_failure_warns_and_says_what_to_do(monkeypatch):
    def fail():
        raise _load.NotLoaded("its native part does not load.")

    monkeypatch.setenv("RUSTORCH_AUTOLOAD", "1")
    monkeypatch.setattr(_load, "load", fail)
    with pytest.warns(UserWarning, match=r"not available: its native part does not load\. Set RUSTORCH_AUTOLOAD=0"):
        _load.autoload()


@pytest.mark.parametrize(("wish", "loads"), [("", 0), ("0", 0), ("1", 1)])
def test_another_accelerator_keeps_the_device_out_unless_wished(monkeypatch, wish, loads):
    calls = []
    monkeypatch.setenv("RUSTORCH_AUTOLOAD", wish)
    monkeypatch.setattr(_load, "_other_accelerator", lambda: True)
    monkeypatch.setattr(_load, "load", lambda: calls.append(1))
    monkeypatch.setattr(_load, "_forget_package", lambda: None)
    _load.autoload()
    assert len(calls) == loads


def test_loading_is_quick(python):
    program = (
        "import torch, time; start = time.process_time(); import rustorch_device; print(time.process_time() - start)"
    )
    seconds = min(float(python(program, RUSTORCH_AUTOLOAD="0").stdout) for _ in range(3))
    assert seconds < 0.15


def test_dynamo_is_not_imported_by_loading(python):
    done = python("import torch, sys; print('torch._dynamo' in sys.modules)", RUSTORCH_AUTOLOAD="1")
    assert done.stdout == "False\n", done.stderr
