"""What a newcomer gets wrong, and is told."""

from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

import rustorch_device
from rustorch_device import __main__ as commands
from rustorch_device import optim


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (lambda: optim.matching(r"^hed\.", lr=1e-2), r"\^hed"),
        (lambda: optim.no_decay("norm"), "norm"),
        (lambda: optim.layerwise(["0", "blok"], lr=1e-2, decay=0.9), "blok"),
    ],
)
def test_a_rule_that_fits_nothing_is_refused(rule, name):
    with pytest.raises(ValueError, match=f"{name}.* fits no parameter of the model, which has 0.weight, 0.bias"):
        optim.groups(model(), rule())


def test_rules_fit_frozen_parameters_too():
    net = model()
    net[0].requires_grad_(False)
    assert len(optim.groups(net, optim.matching("^0", lr=1.0), optim.no_decay())) == 2


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"RUSTORCH_JIT": "maybe"}, "RUSTORCH_JIT=maybe is ignored: it may be 1, 0"),
        ({"RUSTORCH_FALLBACK": "quiet"}, "RUSTORCH_FALLBACK=quiet is ignored: it may be warn, silent, error"),
        ({"RUSTORCH_ISA": "avx1024"}, "RUSTORCH_ISA=avx1024 is ignored"),
        ({"RUSTORCH_FALBACK": "error"}, "RUSTORCH_FALBACK is no variable of rustorch's"),
    ],
)
def test_typos_in_the_environment_are_told_once(python, environment, words):
    done = python("import torch; print(torch.ones(2, device='rustorch').sum().item())", **environment)
    assert done.returncode == 0 and done.stdout == "2.0\n", done.stderr
    assert done.stderr.count(words) == 1 and "Known are RUSTORCH_AUTOLOAD, " in done.stderr


def test_switches_have_words(python):
    jit = "from rustorch_device import explain; import os, torch; print(os.environ['RUSTORCH_JIT'])"
    done = python(jit, RUSTORCH_JIT="off")
    assert done.stdout == "0\n" and done.stderr == "", done.stderr
    done = python("import torch; print(hasattr(torch, 'rustorch'))", RUSTORCH_AUTOLOAD="no")
    assert done.stdout == "False\n" and done.stderr == "", done.stderr


def test_the_package_lists_its_commands(capsys):
    assert commands.main([]) == 0
    text = capsys.readouterr().out
    package = Path(rustorch_device.__file__).parent
    modules = {path for path in package.rglob("*.py") if 'if __name__ == "__main__":' in path.read_text()}
    names = {path.parent.name if path.name == "__main__.py" else path.stem for path in modules}
    assert set(commands.COMMANDS) == names - {package.name}
    assert all(name in text for name in commands.COMMANDS)
    with pytest.raises(SystemExit) as refused:
        commands.main(["parities"])
    assert refused.value.code == 2 and "choose from" in capsys.readouterr().err


def test_a_command_takes_what_follows_its_name(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", [])
    with pytest.raises(SystemExit) as ended:
        commands.main(["checkpoint", "inspect", str(tmp_path / "missing")])
    assert ended.value.code == 1 and "missing" in capsys.readouterr().err


def test_save_and_load_say_what_is_wrong(tmp_path):
    net, path = model(), tmp_path / "net"
    with pytest.raises(TypeError, match=r"expected a path first, got Sequential; torch.save alone takes it last"):
        rustorch_device.save(net, path)
    with pytest.raises(TypeError, match=r"expected `model` to be a module, got OrderedDict.*save_tensors"):
        rustorch_device.save(path, net.state_dict())
    with pytest.raises(TypeError, match="expected a dictionary of tensors, got Sequential"):
        rustorch_device.save_tensors(path, net)
    assert not path.exists()
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        torch.save(net.state_dict(), path, **options)
        with pytest.raises(
            rustorch_device.checkpoint.CheckpointError, match=r"file of torch.save: read it by torch.load"
        ):
            rustorch_device.load(path, net)


def test_alias_takes_tensors():
    with pytest.raises(TypeError, match=r"expected a tensor, got ndarray. torch.as_tensor\(..\)"):
        rustorch_device.alias(numpy.ones(3))


def test_names_can_be_completed():
    assert {"save", "load", "alias", "profile"} <= set(dir(rustorch_device))
    assert "memory_summary" in dir(torch.rustorch) and not {"Any", "torch", "collections"} & set(dir(torch.rustorch))
    assert all(hasattr(torch.rustorch, name) for name in dir(torch.rustorch))


def test_memory_has_a_summary():
    kept = torch.ones(1 << 20, device="rustorch")
    text = torch.rustorch.memory_summary()
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["allocated", "reserved", "allocations", "segments"]
    held = float(text.splitlines()[1].split()[2].replace(",", ""))
    assert held == pytest.approx(torch.rustorch.memory_allocated() / 2**20, abs=0.01) and held >= 4
    assert len(torch.rustorch.memory_summary(abbreviated=True).splitlines()) == 3
    del kept
