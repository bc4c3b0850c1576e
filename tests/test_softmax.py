"""softmax and log_softmax agree with the CPU."""

import pytest
import torch
import torch.nn.functional as F

import rustorch_device  # noqa: F401

DEVICE = "rustorch"
TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 2e-6, torch.float64: 1e-12}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("op", [F.softmax, F.log_softmax])
@pytest.mark.parametrize("shape", [(), (5,), (3, 10), (2, 3, 17), (4, 1000), (2, 50257), (0, 3), (2, 5, 6, 7)])
def test_forward_and_backward(op, shape, dtype):
    tolerance = TOLERANCE[dtype]
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(shape, generator=generator).mul(4).to(dtype)
    grad = torch.randn(shape, generator=generator).to(dtype)
    for dim in range(max(len(shape), 1)):
        for transposed in (False, True):
            if transposed and len(shape) < 2:
                continue
            results = []
            for device in ("cpu", DEVICE):
                x = values.clone().to(device)
                if transposed:
                    x = x.transpose(0, -1).contiguous().transpose(0, -1)
                x = x.detach().requires_grad_()
                y = op(x, dim)
                y.backward(grad.to(device))
                results.append((y, x.grad))
            for expected, actual in zip(*results, strict=True):
                assert actual.device.type == DEVICE
                assert actual.dtype == expected.dtype
                torch.testing.assert_close(actual.cpu(), expected, rtol=tolerance * 4, atol=tolerance * 4)


@pytest.mark.parametrize("op", [F.softmax, F.log_softmax])
def test_masked_rows(op):
    low, high = -float("inf"), float("inf")
    x = torch.tensor([[0.0, low, 1.0], [low, low, low], [high, 0.0, 1.0], [float("nan"), 0.0, 1.0]])
    torch.testing.assert_close(op(x.to(DEVICE), 1).cpu(), op(x, 1), equal_nan=True)


@pytest.mark.parametrize("op", [F.softmax, F.log_softmax])
def test_gradcheck(op):
    x = torch.randn(3, 4, 2, dtype=torch.float64).to(DEVICE).requires_grad_()
    for dim in range(3):
        assert torch.autograd.gradcheck(lambda x, dim=dim: op(x, dim), (x,))
        assert torch.autograd.gradgradcheck(lambda x, dim=dim: op(x, dim), (x,))


def test_dtype_argument_and_out():
    x = torch.randn(3, 7)
    half = x.to(torch.bfloat16)
    y = F.softmax(half.to(DEVICE), 1, dtype=torch.float32)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.cpu(), F.softmax(half, 1, dtype=torch.float32))
    out = torch.empty(7, 3, device=DEVICE).t()
    torch.softmax(x.to(DEVICE), 1, out=out)
    torch.testing.assert_close(out.cpu(), torch.softmax(x, 1))


def test_errors_are_those_of_the_cpu():
    for call in (lambda x: x.softmax(2), lambda x: x.long().softmax(1)):
        with pytest.raises(Exception) as expected:
            call(torch.zeros(2, 3))
        with pytest.raises(type(expected.value)):
            call(torch.zeros(2, 3, device=DEVICE))
