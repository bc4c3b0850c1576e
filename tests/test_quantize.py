"""Fake quantization, and training what is to be quantized, without a fallback."""

import copy

import pytest
import torch
from compared import DEVICE, FLOATS, check, check_error, numbers, on_device

EXACT = {"rtol": 0.0, "atol": 0.0}
RANGES = [(0, 255, 100), (-128, 127, 0), (-8, 7, -3), (0, 0, 0)]


def hostile(*size, dtype=torch.float32):
    """With halves of steps, and with what no integer says."""
    x = numbers(*size, dtype=torch.float64) * 20
    x.view(-1)[::3] = x.view(-1)[::3].round() * 0.05
    x.view(-1)[:4] = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30])
    return x.to(dtype)


def layouts(x):
    return x, x.transpose(0, 1).contiguous().transpose(0, 1), torch.stack([x, x], -1)[..., 0], x[:, 1:2].expand_as(x)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("low", "high", "zero"), RANGES)
def test_by_tensor(dtype, low, high, zero):
    for x in (*layouts(hostile(4, 5, 7, dtype=dtype)), hostile(4, 5, 7, dtype=dtype)[:0]):
        check(lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, zero, low, high), x, **EXACT)
        check(lambda x: torch.ops.aten.fake_quantize_per_tensor_affine_cachemask(x, 0.1, zero, low, high), x, **EXACT)
        for zero_type in (torch.int32, torch.int64, torch.float32):
            check(lambda x, s, z: torch.fake_quantize_per_tensor_affine(x, s, z, low, high), x, torch.tensor([0.1]),
                  torch.tensor([zero]).to(zero_type), **EXACT)  # fmt: skip
        for enabled in (0, 1):
            check(lambda x, s, z, e: torch.ops.aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams(
                x, s, z, e, low, high), x, torch.tensor(0.1), torch.tensor(zero, dtype=torch.int32),
                torch.tensor([enabled]), **EXACT)  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_by_channel(dtype, axis):
    for x in layouts(hostile(4, 5, 7, dtype=dtype)):
        channels = x.size(axis)
        scale = torch.linspace(0.05, 0.7, channels)
        for zero in (
            torch.arange(channels, dtype=torch.int32),
            torch.linspace(-3.3, 7.5, channels),
            torch.linspace(-3.3, 7.5, channels).half(),
        ):
            check(lambda x, s, z: torch.ops.aten.fake_quantize_per_channel_affine_cachemask(x, s, z, axis, -8, 100), x,
                  scale, zero, **EXACT)  # fmt: skip
    check(lambda x, s, z: torch.fake_quantize_per_channel_affine(x, s, z, 0, 0, 9), torch.ones(3, 0), torch.ones(3),
          torch.zeros(3, dtype=torch.int32), **EXACT)  # fmt: skip


def test_gradients():
    x = numbers(4, 5, 7) * 20
    scale, zero = torch.linspace(0.05, 0.7, 5), torch.arange(5, dtype=torch.int32)
    check(lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 3, 0, 100), x, grad=True, **EXACT)
    results = []
    for values, *numbers_of_channels in ([x, scale, zero], on_device([x, scale, zero])):
        values.requires_grad_()
        torch.fake_quantize_per_channel_affine(values, *numbers_of_channels, 1, 0, 100).sum().backward()
        results.append(values.grad.cpu())
    assert torch.equal(*results)


@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_learnt(factor):
    for zero in ([3.0], [2.5], [1.5], [-7.7], [400.0]):
        check(lambda x, s, z: torch._fake_quantize_learnable_per_tensor_affine(x, s, z, -5, 100, factor),
              numbers(4, 5, 7) * 20, torch.tensor([0.13]), torch.tensor(zero), grad=True,
              rtol=1e-5, atol=1e-4)  # fmt: skip
    for axis, channels in enumerate((4, 5, 7)):
        check(torch._fake_quantize_learnable_per_channel_affine, numbers(4, 5, 7) * 20,
              torch.linspace(0.05, 0.7, channels), torch.linspace(-3.3, 7.5, channels), axis, -5, 100, factor,
              grad=True, rtol=1e-5, atol=1e-4)  # fmt: skip


@pytest.mark.parametrize(
    "call",
    [
        lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 300, 0, 255),
        lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 3, 9, 2),
        lambda x: torch.fake_quantize_per_channel_affine(x, x[0].expand(3), x.new_zeros(3).int(), 0, 9, 2),
        lambda x: torch.fake_quantize_per_channel_affine(x, x.new_ones(3), x.new_zeros(3).int() + 300, 0, 0, 255),
        lambda x: torch.fake_quantize_per_channel_affine(x, x.new_ones(4), x.new_zeros(4).int(), 0, 0, 255),
        lambda x: torch.fake_quantize_per_channel_affine(x, x.new_ones(3), x.new_zeros(4).int(), 0, 0, 255),
        lambda x: torch.fake_quantize_per_channel_affine(x, x.new_ones(3), x.new_zeros(3).long(), 0, 0, 255),
        lambda x: torch.fake_quantize_per_channel_affine(x, x.new_ones(3).double(), x.new_zeros(3).int(), 0, 0, 255),
        lambda x: torch.fake_quantize_per_channel_affine(x, x.new_ones(3), x.new_zeros(3).int(), 7, 0, 255),
        lambda x: torch.ops.aten._fake_quantize_learnable_per_tensor_affine_backward(
            x.double(), x, x.new_ones(1), x.new_ones(1), 0, 9, 1.0
        ),
        lambda x: torch.ops.aten._fake_quantize_learnable_per_tensor_affine_backward(
            x, x, x.new_ones(1), x.new_ones(1), 1, 9, 1.0
        ),
    ],
)
def test_refused(call):
    check_error(call, torch.ones(3))


def test_compiled():
    x, scale, zero = numbers(4, 5, 7) * 20, torch.linspace(0.05, 0.7, 5), torch.arange(5, dtype=torch.int32)

    def rounded(x, scale, zero):
        whole = torch.fake_quantize_per_tensor_affine(x * 2, 0.1, 3, 0, 255)
        return whole + torch.fake_quantize_per_channel_affine(x, scale, zero, 1, 0, 100).sin()

    actual, expected = on_device(x).requires_grad_(), x.clone().requires_grad_()
    out = torch.compile(rounded, backend="rust_backend")(actual, on_device(scale), on_device(zero))
    wanted = rounded(expected, scale, zero)
    torch.testing.assert_close(out.cpu(), wanted)
    out.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(actual.grad.cpu(), expected.grad)


# Observers.


def observed(**changed):
    state = {
        "observer_on": torch.tensor([1]),
        "fake_quant_on": torch.tensor([1]),
        "running_min": torch.tensor(torch.inf),
        "running_max": torch.tensor(-torch.inf),
        "scale": torch.tensor([1.0]),
        "zero_point": torch.tensor([0], dtype=torch.int32),
    }
    return {**state, **changed}


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("low", "high"), [(0, 255), (-128, 127), (-8, 7)])
@pytest.mark.parametrize(("observes", "quantizes"), [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_the_fused_observer(symmetric, low, high, observes, quantizes):
    for functional in (False, True):
        for x, per_row in (
            (numbers(6, 7), False),
            (numbers(6, 7).T * 3 + 5, False),
            (numbers(6, 7) - 9, False),
            (numbers(6, 7) * 1e-6, False),
            (torch.zeros(6, 7), False),
            (numbers(6, 7), True),
            (numbers(6, 3, 2, 2) * 4, True),
        ):
            states = observed(observer_on=torch.tensor([observes]), fake_quant_on=torch.tensor([quantizes]))
            if not observes:
                states.update(running_min=torch.tensor(-1.5), running_max=torch.tensor(2.5))
            if per_row:
                for name in ("running_min", "running_max", "scale", "zero_point"):
                    states[name] = states[name].repeat(6)
            name = "_fused_moving_avg_obs_fq_helper" + ("_functional" if functional else "")
            moved = {name: on_device(value) for name, value in states.items()}
            for step in range(2):
                given = x * (1 + step)
                call = getattr(torch.ops.aten, name)
                expected = call(given, *states.values(), 0.01, low, high, 0, per_row, symmetric)
                actual = call(on_device(given), *moved.values(), 0.01, low, high, 0, per_row, symmetric)
                for mine, theirs in zip([*actual, *moved.values()], [*expected, *states.values()], strict=True):
                    torch.testing.assert_close(mine.cpu(), theirs, **EXACT)


def test_the_fused_observer_makes_room():
    """The rows of a weight are known at its first call."""
    empty = torch.tensor([])
    states = observed(running_min=empty, running_max=empty.clone(), scale=empty.clone(), zero_point=empty.int())
    moved = {name: on_device(value) for name, value in states.items()}
    x = numbers(6, 3, 2)
    for given, state in ((x, states), (on_device(x), moved)):
        torch.ops.aten._fused_moving_avg_obs_fq_helper(given, *state.values(), 0.01, -128, 127, 0, True, True)
    for mine, theirs in zip(moved.values(), states.values(), strict=True):
        torch.testing.assert_close(mine.cpu(), theirs, **EXACT)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("config", ["fbgemm", "x86", "qnnpack"])
def test_training_what_is_to_be_quantized(config):
    """torch.ao.quantization's modules, some steps, beside the CPU's; its qconfigs fuse observers."""
    quantization = torch.ao.quantization
    torch.manual_seed(0)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.quant, self.dequant = quantization.QuantStub(), quantization.DeQuantStub()
            self.conv, self.norm = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8)
            self.relu, self.linear = torch.nn.ReLU(), torch.nn.Linear(8, 5)

        def forward(self, x):
            x = self.relu(self.norm(self.conv(self.quant(x))))
            return self.dequant(self.linear(x.mean((2, 3))))

    here = Model().train()
    here = quantization.fuse_modules_qat(here, [["conv", "norm", "relu"]])
    here.qconfig = quantization.get_default_qat_qconfig(config)
    here = quantization.prepare_qat(here).train()
    there = copy.deepcopy(here).to(DEVICE)
    for step in range(3):
        x, labels = numbers(4, 3, 8, 8, seed=step), torch.arange(4)
        losses = []
        for model, device in ((here, "cpu"), (there, DEVICE)):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            loss = torch.nn.functional.cross_entropy(model(x.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach().cpu())
        # An activation at half of a step may become the next one.
        torch.testing.assert_close(losses[1], losses[0], rtol=0.02, atol=0.02)
