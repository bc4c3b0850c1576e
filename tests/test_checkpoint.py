"""Training that is saved and loaded goes on as if it had not stopped, bit for bit."""

import os
import random
import stat
import tty

import numpy
import pytest
import torch
from torch import nn

import rustorch_device
from rustorch_device.checkpoint import CheckpointError

DEVICES = ["rustorch", "cpu"]


class Net(nn.Module):
    """Convolution, batch norm with its buffers, dropout, a transposed weight and a tied pair."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.25)
        self.first = nn.Linear(64, 64, bias=False)
        self.second = nn.Linear(64, 10)
        self.second.weight = nn.Parameter(torch.randn(64, 10).mul(0.1).t())
        self.again = nn.Linear(64, 64)
        self.again.weight = self.first.weight

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.dropout(self.norm(self.conv(images)).relu()).flatten(1)
        hidden = hidden.unflatten(1, (4, 64)).mean(1)
        return self.second(self.again(self.first(hidden)).relu())


class Training:
    """A model, optimizer and scheduler, and steps on random data that the CPU's generator gives."""

    def __init__(self, device: str, compiled: bool = False, **options) -> None:
        self.device = device
        self.model = Net().to(device)
        decayed = [parameter for name, parameter in self.model.named_parameters() if name.endswith("weight")]
        rest = [parameter for name, parameter in self.model.named_parameters() if not name.endswith("weight")]
        groups = [{"params": decayed}, {"params": rest, "weight_decay": 0.0, "lr": 0.02}]
        self.optimizer = torch.optim.AdamW(groups, lr=0.01, fused=True, **options)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [2, 5], gamma=0.5)
        self.call = torch.compile(self.model, backend="rust_backend") if compiled else self.model

    def step(self) -> float:
        images = torch.randn(6, 1, 8, 8).to(self.device) * random.random()
        labels = torch.from_numpy(numpy.random.randint(0, 10, 6)).to(self.device)
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.call(images), labels)
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return loss.item()

    def parts(self) -> dict:
        return {"model": self.call, "optimizer": self.optimizer, "scheduler": self.scheduler}

    def state(self) -> list[torch.Tensor]:
        """Copies of all that is kept."""
        kept = list(self.model.state_dict().values())
        for values in self.optimizer.state_dict()["state"].values():
            kept += [value for value in values.values() if isinstance(value, torch.Tensor)]
        return [value.detach().cpu().clone() for value in kept]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    """The same bits: NaNs and signed zeros too."""
    return len(one) == len(other) and all(
        a.dtype == b.dtype
        and a.shape == b.shape
        and a.contiguous().view(-1).view(torch.uint8).equal(b.contiguous().view(-1).view(torch.uint8))
        for a, b in zip(one, other, strict=True)
    )


@pytest.fixture(autouse=True)
def seeds():
    torch.manual_seed(1)
    random.seed(2)
    numpy.random.seed(3)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("device", DEVICES)
def test_training_goes_on_bit_for_bit(tmp_path, device, compiled):
    path = tmp_path / "a.safetensors"
    first = Training(device, compiled)
    for _ in range(3):
        first.step()
    rustorch_device.save(path, **first.parts(), step=3)
    kept = first.state()
    losses = [first.step() for _ in range(4)]
    drawn = random.random(), numpy.random.rand(), torch.rand(3), torch.rand(3, device="rustorch").cpu()

    second = Training(device, compiled)
    second.step()
    assert rustorch_device.load(path, **second.parts()).step == 3
    assert equal(second.state(), kept)
    assert second.model.again.weight is second.model.first.weight
    assert [second.step() for _ in range(4)] == losses
    assert equal(second.state(), first.state())
    again = random.random(), numpy.random.rand(), torch.rand(3), torch.rand(3, device="rustorch").cpu()
    assert again[:2] == drawn[:2] and equal(list(again[2:]), list(drawn[2:]))


@pytest.mark.parametrize("start", [("rustorch", False), ("cpu", False), ("rustorch", True), ("cpu", True)])
@pytest.mark.parametrize("end", [("rustorch", False), ("cpu", True), ("rustorch", True), ("cpu", False)])
def test_state_moves_between_devices_and_modes(tmp_path, start, end):
    first, second = Training(*start), Training(*end)
    for _ in range(2):
        first.step()
    rustorch_device.save(tmp_path / "a.safetensors", **first.parts())
    rustorch_device.load(tmp_path / "a.safetensors", **second.parts())
    assert equal(second.state(), first.state())
    assert all(value.device.type == end[0] for value in second.model.state_dict().values())
    # Each draws its masks in its own way; without dropout they agree as far as their kernels do.
    losses = []
    for training in (first, second):
        torch.manual_seed(9)
        random.seed(2)
        numpy.random.seed(3)
        training.model.dropout.p = 0.0
        losses.append([training.step() for _ in range(3)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


OPTIMIZERS = [
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (torch.optim.Adam, {"lr": 0.01, "amsgrad": True}),
    (torch.optim.AdamW, {"lr": torch.tensor(0.01), "foreach": False}),
    (torch.optim.AdamW, {"lr": 0.01, "foreach": True}),
    (torch.optim.RMSprop, {"lr": 0.01, "momentum": 0.5, "centered": True}),
    (torch.optim.Adagrad, {"lr": 0.1}),
    (torch.optim.NAdam, {"lr": 0.1}),
    (torch.optim.Adafactor, {"lr": 0.1}),
    (torch.optim.LBFGS, {"lr": 0.1}),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("optimizer", "options"), OPTIMIZERS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_optimizers_state(tmp_path, optimizer, options, device):
    inputs = torch.randn(5, 4).to(device)

    def made():
        model = nn.Linear(4, 3).to(device)
        return model, optimizer(model.parameters(), **options)

    def steps(model, stepper):
        def closure():
            stepper.zero_grad()
            loss = model(inputs).square().sum()
            loss.backward()
            return loss

        return [stepper.step(closure).item() for _ in range(3)]

    model, stepper = made()
    steps(model, stepper)
    rustorch_device.save(tmp_path / "a.safetensors", model=model, optimizer=stepper)
    expected = steps(model, stepper)
    model, stepper = made()
    rustorch_device.load(tmp_path / "a.safetensors", model=model, optimizer=stepper)
    assert steps(model, stepper) == expected


@pytest.mark.parametrize("device", DEVICES)
def test_state_in_another_type_than_its_parameter_stays(tmp_path, device):
    parameter = nn.Parameter(torch.ones(3, dtype=torch.bfloat16, device=device))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    optimizer.state[parameter]["momentum_buffer"] = torch.tensor([1.0, 1.0001, 2.0]).to(device)
    rustorch_device.save(tmp_path / "a.safetensors", optimizer=optimizer)
    del optimizer.state[parameter]
    rustorch_device.load(tmp_path / "a.safetensors", optimizer=optimizer)
    buffer = optimizer.state[parameter]["momentum_buffer"]
    assert buffer.dtype == torch.float32 and buffer.device.type == device and buffer[1].item() > 1


def test_parameters_are_found_by_their_names(tmp_path):
    path = tmp_path / "a.safetensors"
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for at, parameter in enumerate(model.parameters()):
        optimizer.state[parameter]["momentum_buffer"] = torch.full_like(parameter, at)
    rustorch_device.save(path, model=model, optimizer=optimizer)
    assert {"optim.0.weight.momentum_buffer", "1.bias"} <= {
        tensor.name for tensor in rustorch_device.inspect(path).tensors
    }
    turned = torch.optim.SGD(list(model.parameters())[::-1], lr=0.5, momentum=0.9)
    rustorch_device.load(path, model=model, optimizer=turned)
    assert [turned.state[p]["momentum_buffer"].flatten()[0].item() for p in model.parameters()] == [0, 1, 2, 3]
    assert turned.param_groups[0]["lr"] == 0.1

    for wrong, reason in [
        (torch.optim.Adam(model.parameters()), "state of SGD, not of Adam"),
        (torch.optim.SGD([{"params": [p]} for p in model.parameters()]), r"groups are of \[4\]"),
        (torch.optim.SGD([*list(model.parameters())[:3], torch.zeros(2)]), "lacks group0.3"),
    ]:
        with pytest.raises(CheckpointError, match=reason):
            rustorch_device.load(path, model=model, optimizer=wrong)


def test_generators_are_put_back_for_training_or_when_asked(tmp_path):
    path = tmp_path / "a.safetensors"
    model = nn.Linear(2, 2)
    rustorch_device.save(path, model=model, optimizer=torch.optim.SGD(model.parameters()))
    expected = torch.rand(2)
    rustorch_device.load(path, model=model)
    assert not torch.equal(torch.rand(2), expected)
    rustorch_device.load(path, model=model, rng=True)
    assert torch.equal(torch.rand(2), expected)
    rustorch_device.load(path, model=model, optimizer=torch.optim.SGD(model.parameters()))
    assert torch.equal(torch.rand(2), expected)
    drawn = torch.get_rng_state()
    rustorch_device.load(path, model=model, optimizer=torch.optim.SGD(model.parameters()), rng=False)
    assert torch.equal(torch.get_rng_state(), drawn)


def test_a_scaler_and_nested_schedulers(tmp_path):
    path = tmp_path / "a.safetensors"

    def made():
        parameter = nn.Parameter(torch.ones(2, device="rustorch"))
        optimizer = torch.optim.SGD([parameter], lr=1.0)
        warm = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=3)
        plateau = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
        scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, plateau], [3])
        return optimizer, scheduler, torch.amp.GradScaler("rustorch", init_scale=8.0)

    optimizer, scheduler, scaler = made()
    scaler.scale(torch.ones((), device="rustorch"))
    scaler.update(4.0)
    for _ in range(4):
        optimizer.step()
        scheduler.step()
    rustorch_device.save(path, optimizer=optimizer, scheduler=scheduler, scaler=scaler)
    optimizer2, scheduler2, scaler2 = made()
    rustorch_device.load(path, optimizer=optimizer2, scheduler=scheduler2, scaler=scaler2)
    assert scheduler2.state_dict() == scheduler.state_dict()
    assert scaler2.state_dict() == scaler.state_dict()
    rates = []
    for stepper, schedule in ((optimizer, scheduler), (optimizer2, scheduler2)):
        stepper.step()
        schedule.step()
        rates.append(schedule.get_last_lr())
    assert rates[0] == rates[1]


def check_refusal(path, training: Training, reason: str, **parts) -> None:
    """The load fails, and changes nothing."""
    before, drawn = training.state(), torch.get_rng_state()
    with pytest.raises(CheckpointError, match=reason):
        rustorch_device.load(path, **parts)
    assert equal(training.state(), before)
    assert torch.equal(torch.get_rng_state(), drawn)


def test_what_does_not_fit_is_refused_before_anything_changes(tmp_path):
    path = tmp_path / "a.safetensors"
    training = Training("rustorch")
    training.step()
    rustorch_device.save(path, **training.parts())
    training.step()
    wider = Net()
    wider.second = nn.Linear(64, 11)
    rustorch_device.save(tmp_path / "wider.safetensors", model=wider)
    rustorch_device.save(tmp_path / "less.safetensors", model=nn.Sequential(nn.Linear(2, 2)))
    model = {"model": training.model}
    check_refusal(
        tmp_path / "wider.safetensors", training, r"second.weight is of shape \[11, 64\] in the file", **model
    )
    check_refusal(tmp_path / "less.safetensors", training, "lacks conv.weight.*the model has no 0.weight", **model)
    check_refusal(tmp_path / "less.safetensors", training, "holds no optimizer", optimizer=training.optimizer)
    # A damaged byte, in the last of the tensors, found before the first is written.
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 16
    path.write_bytes(damaged)
    check_refusal(path, training, "bytes of tensor .* have changed", **training.parts())
    with pytest.raises(FileNotFoundError):
        rustorch_device.load(tmp_path / "no such file", **training.parts())
    with pytest.raises(FileNotFoundError, match="no folder"):
        rustorch_device.save(tmp_path / "no folder" / "a", model=training.model)


def test_without_strict_the_rest_is_loaded(tmp_path):
    path = tmp_path / "a.safetensors"
    rustorch_device.save(path, model=nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}))
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "c": nn.Linear(2, 2)})
    loaded = rustorch_device.load(path, model=model, optimizer=torch.optim.SGD(model.parameters()), strict=False)
    assert loaded.missing == ["c.weight", "c.bias"] and loaded.unexpected == ["b.weight", "b.bias"]
    assert torch.equal(model["a"].weight, rustorch_device.load_tensors(path)["a.weight"])


def test_a_tied_model_takes_untied_weights(tmp_path):
    """As `load_state_dict` does: what is loaded last is what both have."""
    path = tmp_path / "a.safetensors"
    saved, model = (nn.ModuleDict({"a": nn.Linear(3, 3), "e": nn.Linear(0, 3), "b": nn.Linear(3, 3)}) for _ in range(2))
    model["b"].weight = model["a"].weight
    rustorch_device.save(path, model=saved)
    rustorch_device.load(path, model=model)
    assert torch.equal(model["a"].weight, saved["b"].weight) and model["a"].weight is model["b"].weight
    assert torch.equal(model["a"].bias, saved["a"].bias)


def test_modules_that_load_in_their_own_way(tmp_path):
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def get_extra_state(self):
            return {"calls": self.calls, "when": (1, torch.ones(2))}

        def set_extra_state(self, state):
            self.calls, self.when = state["calls"], state["when"]

    class Renamed(nn.Linear):
        _version = 3

        def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
            assert local_metadata["version"] == 3
            if f"{prefix}old" in state_dict:
                state_dict[f"{prefix}weight"] = state_dict.pop(f"{prefix}old")
            super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    class Old(Renamed):
        def _save_to_state_dict(self, destination, prefix, keep_vars):
            super()._save_to_state_dict(destination, prefix, keep_vars)
            destination[f"{prefix}old"] = destination.pop(f"{prefix}weight")

    saved = nn.Sequential(Old(2, 2), Counting())
    saved[1].calls = 7
    rustorch_device.save(tmp_path / "a.safetensors", model=saved)
    model = nn.Sequential(Renamed(2, 2), Counting())
    rustorch_device.load(tmp_path / "a.safetensors", model=model)
    assert torch.equal(model[0].weight, saved[0].weight)
    assert model[1].calls == 7 and model[1].when[0] == 1 and torch.equal(model[1].when[1], torch.ones(2))


def test_wrapped_models_are_the_same_in_a_file(tmp_path):
    path = tmp_path / "a.safetensors"
    plain, inner = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2))
    # DataParallel moves its module to the accelerator that it finds.
    inner[0] = torch.compile(inner[0], backend="rust_backend")
    wrapped = nn.DataParallel(torch.compile(inner, backend="rust_backend"))
    rustorch_device.save(path, model=wrapped, optimizer=torch.optim.SGD(wrapped.parameters(), momentum=0.9))
    names = list(rustorch_device.load_tensors(path))
    assert "0.weight" in names and not any("_orig_mod" in name or "module." in name for name in names)
    rustorch_device.load(path, model=plain, optimizer=torch.optim.SGD(plain.parameters(), momentum=0.9))
    assert equal(list(plain.state_dict().values()), [value.cpu() for value in inner.state_dict().values()])
    rustorch_device.save(path, model=plain)
    rustorch_device.load(path, model=wrapped)
    rustorch_device.load(path, model=wrapped, mmap=True)


@pytest.mark.parametrize("device", DEVICES)
def test_a_mapped_model_trains_and_leaves_the_file_alone(tmp_path, device):
    path = tmp_path / "a.safetensors"
    saved, mapped = Training(device), Training(device)
    rustorch_device.save(path, model=saved.model, rng=False)
    written = path.read_bytes()
    parameters = list(mapped.model.parameters())
    rustorch_device.load(path, model=mapped.model, mmap=True)
    assert equal(mapped.state(), saved.state())
    assert all(one is other for one, other in zip(parameters, mapped.model.parameters(), strict=True))
    assert mapped.model.again.weight is mapped.model.first.weight
    with torch.no_grad():
        for parameter in mapped.model.parameters():
            parameter.mul_(2.0)
    assert equal([mapped.model.conv.bias.cpu()], [saved.model.conv.bias.cpu() * 2])
    assert path.read_bytes() == written


def test_files_of_every_version(tmp_path):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2, 3))
            self.register_buffer("count", torch.tensor(0))
            self.tied = self.weight

    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [9])
    loaded = rustorch_device.load("tests/golden/version_1.safetensors", model, optimizer, scheduler)
    assert torch.equal(model.weight, torch.arange(6.0).view(2, 3)) and model.count == 3
    assert optimizer.param_groups[0]["lr"] == 0.0
    assert torch.equal(optimizer.state[model.weight]["exp_avg"], torch.full((2, 3), 0.1))
    assert scheduler.milestones == {2: 1, 4: 1}
    assert loaded.step == 7
    extra = loaded.extra
    assert extra["tuple"] == (1, 2.5, None) and extra[3] == {4} and extra["inf"] == float("inf")
    assert extra["bytes"] == b"\x00\xff" and extra["array"].dtype == numpy.float32
    assert extra["transposed"].stride() == (1, 4) and extra["complex"].item() == 1 + 2j
    extra["transposed"][0, 1] = 40
    assert extra["part"].tolist() == [3, 40, 5, 6], "they shared memory"
    assert rustorch_device.checkpoint.verify("tests/golden/version_1.safetensors") > 5

    plain = nn.Module()
    plain.weight = nn.Parameter(torch.zeros(2, 3))
    plain.bias = nn.Parameter(torch.zeros(3, device="rustorch"))
    rustorch_device.load("tests/golden/version_0.safetensors", model=plain)
    assert torch.equal(plain.weight, torch.arange(6.0).view(2, 3))
    assert plain.bias.tolist() == [1.5, -2.0, 0.25]


def test_an_expanded_parameter_takes_what_fits_it_and_nothing_else(tmp_path):
    class Scale(nn.Module):
        def __init__(self, values: torch.Tensor) -> None:
            super().__init__()
            self.first = nn.Parameter(torch.zeros(3))
            self.scale = nn.Parameter(values)

    for device in DEVICES:
        saved = Scale(torch.tensor([[1.0], [float("nan")]], device=device).expand(2, 4))
        saved.first.data.fill_(7)
        rustorch_device.save(tmp_path / "x", model=saved)
        model = Scale(torch.zeros(2, 1, device=device).expand(2, 4))
        rustorch_device.load(tmp_path / "x", model=model)
        torch.testing.assert_close(model.scale, saved.scale, rtol=0, atol=0, equal_nan=True)
        assert model.scale.stride() == (1, 0)

        model = Scale(torch.zeros(4, device=device).expand(2, 4))
        for strict, mmap in ((True, False), (False, False)):
            with pytest.raises(CheckpointError, match="scale share memory"):
                rustorch_device.load(tmp_path / "x", model=model, strict=strict, mmap=mmap)
            assert model.first.tolist() == [0, 0, 0] and model.scale.sum() == 0


def test_meta_tensors_are_refused(tmp_path):
    rustorch_device.save(tmp_path / "x", model=nn.Linear(2, 2))
    for mmap in (False, True):
        with pytest.raises(CheckpointError, match="meta tensor"):
            rustorch_device.load(tmp_path / "x", model=nn.Linear(2, 2, device="meta"), mmap=mmap)


def test_a_path_with_a_zero_byte_is_a_value_error(tmp_path):
    with pytest.raises(ValueError, match="zero byte"):
        rustorch_device.save_tensors(f"{tmp_path}/a\0b", {})
    with pytest.raises(ValueError, match="zero byte"):
        rustorch_device.load_tensors(f"{tmp_path}/a\0b")


def test_a_terminal_is_written_into_and_stays(tmp_path):
    main, terminal = os.openpty()
    name = os.ttyname(terminal)
    tty.setraw(terminal)
    rustorch_device.save_tensors(name, {"x": torch.ones(2)})
    assert stat.S_ISCHR(os.stat(name).st_mode)
    rustorch_device.save_tensors(tmp_path / "x", {"x": torch.ones(2)})
    expected = (tmp_path / "x").read_bytes()
    written = b""
    while len(written) < len(expected):  # A terminal may hand on what it was given piece by piece.
        written += os.read(main, 4096)
    assert written == expected
    os.close(main), os.close(terminal)
