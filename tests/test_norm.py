"""Batch, layer and group normalisation agree with the CPU."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import rustorch_device  # noqa: F401

DEVICE = "rustorch"


def pair(module, x, grad=None, steps=1, tolerance=1e-5):
    """Runs a module on both devices, several steps, and compares outputs, gradients and buffers."""
    twins = {"cpu": module, DEVICE: copy.deepcopy(module).to(DEVICE)}
    seen = {}
    for device, twin in twins.items():
        seen[device] = []
        for _ in range(steps):
            own = x.detach().to(device)
            if not own.is_contiguous() or x.is_contiguous(memory_format=torch.preserve_format):
                own = own.clone()
            own.requires_grad_()
            y = twin(own)
            y.backward(torch.ones_like(y) if grad is None else grad.to(device))
            seen[device] += [y, own.grad]
        seen[device] += [p.grad for p in twin.parameters()] + list(twin.buffers())
    for expected, actual in zip(seen["cpu"], seen[DEVICE], strict=True):
        assert actual.device.type == DEVICE
        assert actual.dtype == expected.dtype
        assert actual.stride() == expected.stride()
        torch.testing.assert_close(actual.cpu(), expected, rtol=tolerance, atol=tolerance * 10)


def shaken(module):
    for parameter in module.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    return module


CASES = [((6, 3), nn.BatchNorm1d), ((4, 3, 9), nn.BatchNorm1d), ((2, 5, 7, 6), nn.BatchNorm2d)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"affine": False}, {"track_running_stats": False}, {"momentum": None}], ids=str
)
@pytest.mark.parametrize(("shape", "kind"), CASES)
def test_batch_norm(shape, kind, options, training):
    module = shaken(kind(shape[1], **options)).train(training)
    pair(module, torch.randn(shape) + 3, torch.randn(shape), steps=2)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_channels_last(training):
    x = torch.randn(3, 8, 5, 4).to(memory_format=torch.channels_last)
    pair(shaken(nn.BatchNorm2d(8)).train(training), x, torch.randn(x.shape))


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_mixed_dtypes(training):
    x = torch.randn(4, 3, 8).to(torch.bfloat16)
    module = shaken(nn.BatchNorm1d(3)).train(training)
    results = [copy.deepcopy(module).to(device)(x.to(device)).cpu() for device in ("cpu", DEVICE)]
    assert results[1].dtype == torch.bfloat16
    torch.testing.assert_close(results[1], results[0], rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_gradcheck(training):
    tensors = [torch.randn(4, 3, 5), torch.rand(3) + 0.5, torch.randn(3)]
    mean, variance = torch.randn(3).double().to(DEVICE), (torch.rand(3) + 0.5).double().to(DEVICE)
    inputs = [tensor.double().to(DEVICE).requires_grad_() for tensor in tensors]

    def call(x, weight, bias):
        return F.batch_norm(x, mean.clone(), variance.clone(), weight, bias, training)

    assert torch.autograd.gradcheck(call, inputs)


def test_batch_norm_errors():
    for device in ("cpu", DEVICE):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            F.batch_norm(torch.zeros(1, 3, device=device), None, None, training=True)
        with pytest.raises(RuntimeError):
            F.batch_norm(torch.zeros(4, 3, device=device), torch.zeros(2, device=device), torch.ones(2, device=device))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("shape", "normalised"), [((5, 7), (7,)), ((2, 3, 4), (3, 4)), ((2, 3, 768), (768,))])
def test_layer_norm(shape, normalised, bias):
    module = shaken(nn.LayerNorm(normalised, bias=bias))
    pair(module, torch.randn(shape) + 2, torch.randn(shape))
    pair(nn.LayerNorm(normalised, elementwise_affine=False), torch.randn(shape), torch.randn(shape))


def test_layer_norm_of_other_layouts_and_dtypes():
    x = torch.randn(6, 5, 4).transpose(0, 2)
    weight, bias = torch.rand(6), torch.randn(6)
    expected = F.layer_norm(x, (6,), weight, bias)
    torch.testing.assert_close(F.layer_norm(x.to(DEVICE), (6,), weight.to(DEVICE), bias.to(DEVICE)).cpu(), expected)
    half = x.to(torch.bfloat16)
    actual = F.layer_norm(half.to(DEVICE), (6,), weight.to(DEVICE), bias.to(DEVICE))
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual.cpu(), F.layer_norm(half, (6,), weight, bias), rtol=2e-2, atol=2e-2)


def test_layer_norm_gradcheck():
    tensors = [torch.randn(3, 4, 5), torch.rand(4, 5), torch.randn(4, 5)]
    inputs = [tensor.double().to(DEVICE).requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(lambda x, weight, bias: F.layer_norm(x, (4, 5), weight, bias), inputs)


def test_layer_norm_errors():
    for device in ("cpu", DEVICE):
        with pytest.raises(RuntimeError, match="expected input with shape"):
            F.layer_norm(torch.zeros(2, 3, device=device), (4,))


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("shape", [(3, 6), (2, 6, 5), (2, 6, 4, 3)])
def test_group_norm(shape, groups):
    if len(shape) == 2 and groups == 6:
        pytest.skip("one value a group")
    pair(shaken(nn.GroupNorm(groups, 6)), torch.randn(shape) + 2, torch.randn(shape))


def test_group_norm_channels_last():
    x = torch.randn(2, 6, 4, 5).to(memory_format=torch.channels_last)
    module = shaken(nn.GroupNorm(3, 6))
    expected = module(x)
    actual = copy.deepcopy(module).to(DEVICE)(x.to(DEVICE))
    torch.testing.assert_close(actual.cpu(), expected)


def test_group_norm_gradcheck():
    tensors = [torch.randn(2, 4, 3), torch.rand(4), torch.randn(4)]
    inputs = [tensor.double().to(DEVICE).requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(lambda x, weight, bias: F.group_norm(x, 2, weight, bias), inputs)


def test_instance_norm():
    pair(shaken(nn.InstanceNorm2d(3, affine=True)), torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5))
