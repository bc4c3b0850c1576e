"""Losses agree with the CPU: values, gradients, weights, reductions, errors."""

import pytest
import torch
import torch.nn.functional as F

import rustorch_device  # noqa: F401

DEVICE = "rustorch"
REDUCTIONS = ["none", "mean", "sum"]


def compare(call, x, *others, tolerance=1e-5):
    """`call(x, *others)` on both devices: the value and the gradient of x."""
    results = []
    for device in ("cpu", DEVICE):
        own = x.detach().clone().to(device).requires_grad_()
        value = call(own, *(other.to(device) if isinstance(other, torch.Tensor) else other for other in others))
        (value * torch.linspace(1, 2, value.numel(), device="cpu").view(value.shape).to(device)).sum().backward()
        results.append((value, own.grad))
    for expected, actual in zip(*results, strict=True):
        assert actual.device.type == DEVICE
        assert actual.dtype == expected.dtype
        torch.testing.assert_close(actual.cpu(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(5, 4), (3, 4, 6), (2, 4, 3, 5)])
def test_cross_entropy(shape, weighted, reduction):
    target = torch.randint(0, 4, (shape[0], *shape[2:]))
    target.view(-1)[1] = -100
    weight = torch.rand(4) + 0.5 if weighted else None

    def call(x, target, weight):
        return F.cross_entropy(x, target, weight, reduction=reduction)

    compare(call, torch.randn(shape), target, weight)
    compare(lambda x, t, w: F.nll_loss(x, t, w, reduction=reduction), torch.randn(shape), target, weight)


def test_cross_entropy_options():
    x, target = torch.randn(6, 5), torch.randint(0, 5, (6,))
    compare(lambda x, t: F.cross_entropy(x, t, ignore_index=2), x, target)
    compare(lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1), x, target)
    compare(F.nll_loss, torch.randn(5), torch.tensor(3))
    compare(F.nll_loss, x.to(torch.bfloat16), target, tolerance=1e-2)
    compare(lambda x, t: F.cross_entropy(x.t(), t), torch.randn(5, 6), target)
    compare(F.cross_entropy, x, torch.rand(6, 5).softmax(1))


def test_everything_ignored():
    x, target = torch.randn(3, 4, device=DEVICE), torch.full((3,), -100, device=DEVICE)
    assert torch.isnan(F.nll_loss(x, target)).item()
    assert F.nll_loss(x, target, reduction="sum").item() == 0


@pytest.mark.parametrize("target", [7, -1])
@pytest.mark.parametrize("device", ["cpu", DEVICE])
def test_target_out_of_bounds(device, target):
    with pytest.raises(IndexError, match=f"Target {target} is out of bounds."):
        F.nll_loss(torch.zeros(2, 4, device=device), torch.tensor([0, target], device=device))


def test_nll_gradcheck():
    x = torch.randn(4, 3, dtype=torch.float64).to(DEVICE).requires_grad_()
    target = torch.tensor([0, 2, 1, 2], device=DEVICE)
    for reduction in REDUCTIONS:
        assert torch.autograd.gradcheck(lambda x, r=reduction: F.cross_entropy(x, target, reduction=r), (x,))


ELEMENTWISE = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "smooth_l1": lambda *args, **named: F.smooth_l1_loss(*args, beta=0.5, **named),
    "huber": lambda *args, **named: F.huber_loss(*args, delta=0.7, **named),
}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_losses(name, reduction):
    op = ELEMENTWISE[name]
    for shape in [(), (7,), (3, 5), (2, 3, 4)]:
        compare(lambda x, y: op(x, y, reduction=reduction), torch.randn(shape), torch.randn(shape))
    compare(lambda x, y: op(x.t(), y, reduction=reduction), torch.randn(5, 3), torch.randn(3, 5))
    x = torch.randn(3, 4, dtype=torch.float64).to(DEVICE).requires_grad_()
    y = torch.randn(3, 4, dtype=torch.float64).to(DEVICE).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: op(x, y, reduction=reduction), (x, y))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_cross_entropy(reduction):
    x, target = torch.rand(4, 5).clamp(0.01, 0.99), torch.rand(4, 5)
    compare(lambda x, t: F.binary_cross_entropy(x, t, reduction=reduction), x, target)
    compare(lambda x, t, w: F.binary_cross_entropy(x, t, w, reduction=reduction), x, target, torch.rand(4, 5))
    for wrong in (1.5, -0.1, float("nan")):
        with pytest.raises(RuntimeError, match="between 0 and 1"):
            F.binary_cross_entropy(torch.full((2,), wrong, device=DEVICE), torch.zeros(2, device=DEVICE))


def test_out():
    x, y = torch.randn(3, 4), torch.randn(3, 4)
    out = torch.empty(0, device=DEVICE)
    torch._C._nn.mse_loss(x.to(DEVICE), y.to(DEVICE), 1, out=out)
    torch.testing.assert_close(out.cpu(), F.mse_loss(x, y))
