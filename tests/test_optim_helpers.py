"""Fifty steps of each optimizer against the CPU; parameter groups, clipping, state that moves."""

import copy

import pytest
import torch
from compared import DEVICE
from torch import nn

import rustorch_device
from rustorch_device import optim

#: Optimizer, options, and the ways in which `torch.optim` can run it.
CASES = [
    (torch.optim.SGD, {"lr": 0.05}),
    (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "dampening": 0.1, "maximize": True}),
    (torch.optim.Adam, {"lr": 0.01}),
    (torch.optim.Adam, {"lr": 0.01, "amsgrad": True}),
    (torch.optim.AdamW, {"lr": 0.01}),
    (torch.optim.RMSprop, {"lr": 0.01}),
    (torch.optim.RMSprop, {"lr": 0.01, "momentum": 0.9, "centered": True}),
    (torch.optim.Adagrad, {"lr": 0.05, "lr_decay": 0.01}),
]
WAYS = {"fused": {"fused": True}, "foreach": {"foreach": True}, "single": {"foreach": False}}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Tanh()) for _ in range(2))
        self.head = nn.Linear(8, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(tokens)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.head(hidden.mean(1))


def net() -> Net:
    torch.manual_seed(0)
    return Net()


def data(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randint(0, 11, (16, 6), generator=generator), torch.randint(0, 5, (16,), generator=generator)


def loss_of(model: nn.Module, step: int) -> torch.Tensor:
    tokens, labels = data(step)
    device = next(model.parameters()).device
    return nn.functional.cross_entropy(model(tokens.to(device)), labels.to(device))


def ways(optimizer) -> list[str]:
    return [way for way in WAYS if way != "fused" or optimizer is not torch.optim.RMSprop]


@pytest.mark.parametrize(
    ("optimizer", "options", "way"),
    [(optimizer, options, way) for optimizer, options in CASES for way in ways(optimizer)],
)
def test_fifty_steps_with_groups_and_a_schedule(optimizer, options, way):
    models = net(), net().to(DEVICE)
    losses = []
    for model in models:
        # On the CPU, PyTorch has no fast path of some kinds for these: the plain one is the reference.
        how = WAYS[way] if model is models[1] else WAYS["single"]
        grouped = optim.groups(model, optim.no_decay(), optim.matching("^head", lr=options["lr"] / 2))
        stepper = optimizer(grouped, weight_decay=0.01, **options, **how)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(stepper, 50)
        reached = []
        for step in range(50):
            stepper.zero_grad()
            loss = loss_of(model, step)
            loss.backward()
            stepper.step()
            schedule.step()
            reached.append(loss.item())
        losses.append(reached)
    assert losses[1] == pytest.approx(losses[0], rel=2e-3, abs=2e-3)
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(other.detach().cpu(), one.detach(), rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("way", ["fused", "foreach"])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_a_compiled_step_with_a_schedule_and_autocast(optimizer, way):
    losses = []
    for compiled in (False, True):
        torch._dynamo.reset()
        model = net().to(DEVICE)
        stepper = optimizer(model.parameters(), lr=0.05, **WAYS[way])
        schedule = torch.optim.lr_scheduler.ExponentialLR(stepper, 0.9)
        scaler = torch.amp.GradScaler(DEVICE, init_scale=64.0)

        def forward(step, model=model):
            with torch.autocast(DEVICE, dtype=torch.bfloat16):
                return loss_of(model, step)

        def advance(stepper=stepper):
            stepper.step()

        if compiled:
            forward, advance = (torch.compile(each, backend="rust_backend") for each in (forward, advance))
        reached = []
        for step in range(6):
            stepper.zero_grad()
            loss = forward(step)
            scaler.scale(loss).backward()
            scaler.unscale_(stepper)
            advance()
            scaler.update()
            schedule.step()
            reached.append(loss.item())
        losses.append(reached)
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("way", ["fused", "foreach"])
def test_a_whole_step_compiles_as_one_function(way):
    losses = []
    for compiled in (False, True):
        torch._dynamo.reset()
        model = net().to(DEVICE)
        stepper = torch.optim.AdamW(model.parameters(), lr=0.05, **WAYS[way])
        schedule = torch.optim.lr_scheduler.ExponentialLR(stepper, 0.9)

        def step(tokens, labels, model=model, stepper=stepper):
            with torch.autocast(DEVICE, dtype=torch.bfloat16):
                loss = nn.functional.cross_entropy(model(tokens), labels)
            loss.backward()
            stepper.step()
            stepper.zero_grad()
            return loss

        call = torch.compile(step, backend="rust_backend") if compiled else step
        reached = []
        for at in range(6):
            reached.append(call(*(given.to(DEVICE) for given in data(at))).item())
            schedule.step()
        losses.append(reached)
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


# Groups.


def test_groups_by_rules():
    model = net()
    model.embedding.weight.requires_grad_(False)
    rules = (
        optim.no_decay(r"^blocks\.1\.0\."),
        optim.layerwise(["embedding", "blocks.0", "blocks.1", "head"], lr=1.0, decay=0.5),
        optim.matching(r"head\.bias", lr=7.0, weight_decay=0.3),
    )
    found = optim.groups(model, *rules)
    options = {}
    for group in found:
        for name, parameter in group["params"]:
            assert model.get_parameter(name) is parameter
            options[name] = {key: value for key, value in group.items() if key != "params"}
    assert list(options) != [] and "embedding.weight" not in options
    assert options["blocks.0.0.weight"] == {"lr": 0.25}
    assert options["blocks.0.0.bias"] == options["blocks.0.1.weight"] == {"lr": 0.25, "weight_decay": 0.0}
    assert options["blocks.1.0.weight"] == {"lr": 0.5, "weight_decay": 0.0}
    assert options["head.weight"] == {"lr": 1.0} and options["head.bias"] == {"lr": 7.0, "weight_decay": 0.3}
    assert len(found) == 5
    optimizer = torch.optim.AdamW(found, lr=1e-3, weight_decay=0.1)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0, 0.0, 0.1, 0.3]
    assert optimizer.param_groups[0]["param_names"] == ["blocks.0.0.weight"]

    assert [name for name, _ in optim.groups(model)[0]["params"]] == [
        name for name, parameter in model.named_parameters() if parameter.requires_grad
    ]
    with pytest.raises(ValueError, match="no parameter"):
        optim.groups(nn.Tanh())


def test_the_longest_layer_counts_and_tied_parameters_are_there_once():
    model = net()
    model.tied = model.head
    found = optim.groups(model, optim.layerwise(["blocks", "blocks.1"], lr=1.0, decay=0.1))
    rates = {name: group.get("lr") for group in found for name, _ in group["params"]}
    assert rates["blocks.0.0.weight"] == 0.1 and rates["blocks.1.0.weight"] == 1.0 and rates["head.weight"] is None
    assert "tied.weight" not in rates


def test_names_of_groups_find_state_in_a_checkpoint(tmp_path):
    path = tmp_path / "a.safetensors"
    model = net()
    optimizer = torch.optim.SGD(optim.groups(model, optim.no_decay()), lr=0.1, momentum=0.9)
    loss_of(model, 0).backward()
    optimizer.step()
    rustorch_device.save(path, optimizer=optimizer)
    assert "optim.head.weight.momentum_buffer" in {tensor.name for tensor in rustorch_device.inspect(path).tensors}
    other = torch.optim.SGD(optim.groups(model, optim.no_decay()), lr=0.5, momentum=0.9)
    rustorch_device.load(path, optimizer=other)
    for parameter in model.parameters():
        assert torch.equal(other.state[parameter]["momentum_buffer"], optimizer.state[parameter]["momentum_buffer"])


# Clipping.


@pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf")])
@pytest.mark.parametrize("max_norm", [0.05, 1000.0, float("inf")])
@pytest.mark.parametrize(
    ("optimizer", "way"), [(torch.optim.AdamW, "fused"), (torch.optim.SGD, "fused"), (torch.optim.SGD, "foreach")]
)
def test_clipping_in_the_step(optimizer, way, max_norm, norm_type):
    theirs, mine = net(), net().to(DEVICE)
    steppers = [optimizer(model.parameters(), lr=0.1, **how) for model, how in ((theirs, {}), (mine, WAYS[way]))]
    for step in range(5):
        for model, stepper in zip((theirs, mine), steppers, strict=True):
            stepper.zero_grad()
            loss_of(model, step).backward()
        expected = nn.utils.clip_grad_norm_(theirs.parameters(), max_norm, norm_type)
        steppers[0].step()
        norm = optim.clipped_step(steppers[1], max_norm, norm_type)
        assert norm.item() == pytest.approx(expected.item(), rel=1e-3)
        assert not hasattr(steppers[1], "grad_scale")
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.detach().cpu(), other.detach(), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(one.grad.cpu(), other.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("unscaled", [False, True])
@pytest.mark.parametrize("way", ["fused", "foreach"])
def test_clipping_with_a_scaler(way, unscaled):
    theirs, mine = net(), net().to(DEVICE)
    plain = torch.optim.SGD(theirs.parameters(), lr=0.1)
    stepper = torch.optim.SGD(mine.parameters(), lr=0.1, **WAYS[way])
    scaler = torch.amp.GradScaler(DEVICE, init_scale=128.0)
    for step in range(4):
        plain.zero_grad()
        stepper.zero_grad()
        loss_of(theirs, step).backward()
        scaler.scale(loss_of(mine, step)).backward()
        if step == 2:
            mine.head.bias.grad[1] = torch.inf
        else:
            nn.utils.clip_grad_norm_(theirs.parameters(), 0.2)
            plain.step()
        if unscaled:
            scaler.unscale_(stepper)
        norm = optim.clipped_step(stepper, 0.2, scaler=scaler)
        assert norm.isfinite().item() == (step != 2)
        scaler.update()
    assert scaler.get_scale() == 64.0
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.detach().cpu(), other.detach(), rtol=1e-3, atol=1e-5)


def test_clipping_refuses_a_bound_that_is_none():
    optimizer = torch.optim.SGD([torch.zeros(1)])
    for bound in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="max_norm"):
            optim.clipped_step(optimizer, bound)


# State that moves.


@pytest.mark.parametrize("way", ["fused", "single"])
def test_state_follows_the_parameters(way):
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, **WAYS[way])
    reference = copy.deepcopy(model)
    expected = torch.optim.AdamW(reference.parameters(), lr=0.05)

    def advance(model, optimizer, step):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()

    for step, device in enumerate(["cpu", DEVICE, DEVICE, "cpu", DEVICE]):
        model.to(device)
        optim.follow_parameters(optimizer)
        advance(model, optimizer, step)
        advance(reference, expected, step)
        state = optimizer.state[model.head.weight]
        assert state["exp_avg"].device.type == device
        assert state["step"].device.type == (device if way == "fused" else "cpu")
    for one, other in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one.detach().cpu(), other.detach(), rtol=1e-3, atol=1e-4)
