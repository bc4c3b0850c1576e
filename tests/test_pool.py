"""Pooling against the CPU: both memory formats, gradients, half types, errors."""

import pytest
import torch
import torch.nn.functional as F
from compared import FLOATS, check, check_error, numbers, on_device

GEOMETRIES = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 0), "ceil_mode": True},
]
SHAPES = [(2, 3, 8, 8), (3, 9, 11), (1, 40, 7, 13), (2, 1, 5, 70)]


def layouts(image: torch.Tensor) -> list[torch.Tensor]:
    found = [image, image.transpose(-1, -2).contiguous().transpose(-1, -2)]
    return [*found, image.contiguous(memory_format=torch.channels_last)] if image.dim() == 4 else found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_max_pool(shape, geometry):
    for image in layouts(numbers(*shape)):
        check(lambda x: F.max_pool2d(x, return_indices=True, **geometry), image, grad=True)
    check(lambda x: F.max_pool2d(x, dilation=2, kernel_size=2), numbers(*shape), grad=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_average_pool(shape, geometry):
    for image in layouts(numbers(*shape)):
        check(lambda x: F.avg_pool2d(x, **geometry), image, grad=True)
        check(lambda x: F.avg_pool2d(x, count_include_pad=False, **geometry), image, grad=True)
        check(lambda x: F.avg_pool2d(x, divisor_override=3, **geometry), image, grad=True)


@pytest.mark.parametrize("size", [1, 2, (3, 5), (None, 4)])
def test_adaptive_average_pool(size):
    for shape in SHAPES:
        for image in layouts(numbers(*shape)):
            check(lambda x: F.adaptive_avg_pool2d(x, size), image, grad=True)


@pytest.mark.parametrize("dtype", FLOATS)
def test_dtypes(dtype):
    image = numbers(2, 5, 9, 10, dtype=dtype)
    # The CPU adds gradients that meet in one pixel in half precision.
    check(lambda x: F.max_pool2d(x, 3, 2, 1), image, grad=True, rtol=1e-2, atol=1e-2)
    check(lambda x: F.avg_pool2d(x, 3, 2, 1), image, grad=True, rtol=1e-2, atol=1e-2)
    check(lambda x: F.adaptive_avg_pool2d(x, (3, 4)), image, grad=True, rtol=1e-2, atol=1e-2)
    check(lambda x: F.max_pool2d(x, 2), numbers(1, 6, 6, dtype=torch.int64))


def test_nan_and_infinity():
    image = numbers(1, 2, 6, 6)
    image[0, 0, 1, 1] = torch.nan
    image[0, 1, 2:4, 2:4] = -torch.inf
    image[0, 1, 0, 0] = torch.inf
    check(lambda x: F.max_pool2d(x, 2, return_indices=True), image)
    check(lambda x: F.avg_pool2d(x, 2), image)


def test_gradients_by_finite_differences():
    image = on_device(numbers(2, 3, 6, 7, dtype=torch.float64)).requires_grad_()
    for pool in (
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        lambda x: F.adaptive_avg_pool2d(x, (4, 3)),
    ):
        assert torch.autograd.gradcheck(pool, image)


def test_one_dimension_and_empty_batches():
    check(lambda x: F.max_pool1d(x, 3, 2), numbers(2, 3, 17), grad=True)
    check(lambda x: F.avg_pool1d(x, 3, 2), numbers(2, 3, 17), grad=True)
    check(lambda x: F.max_pool2d(x, 2), numbers(0, 3, 4, 4))
    check(lambda x: F.avg_pool2d(x, 2), numbers(0, 3, 4, 4))


def test_out():
    image = on_device(numbers(2, 3, 6, 6))
    expected = F.avg_pool2d(image, 2)
    out = torch.empty(0, device="rustorch")
    assert torch._C._nn.avg_pool2d(image, 2, out=out) is out
    assert torch.equal(out.cpu(), expected.cpu())


def test_errors():
    check_error(lambda x: F.max_pool2d(x, 2), numbers(4, 4))
    check_error(lambda x: F.max_pool2d(x, 2, padding=2), numbers(1, 4, 4))
    check_error(lambda x: F.avg_pool2d(x, 9), numbers(1, 4, 4))
    check_error(lambda x: F.avg_pool2d(x, 2, divisor_override=0), numbers(1, 4, 4))
    check_error(lambda x: F.adaptive_avg_pool2d(x, (2, 2)), numbers(1, 0, 4))


def test_average_pool_by_a_negative_divisor():
    check(lambda x: F.avg_pool2d(x, 2, divisor_override=-2), numbers(1, 2, 6, 6), grad=True)
