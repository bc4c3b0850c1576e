"""Convolutions on the device against the CPU's: values, gradients, layouts, errors."""

import pytest
import torch
import torch.nn.functional as F

import rustorch_device  # noqa: F401

DEVICE = "rustorch"

# (function, input, weight, options)
CASES = {
    "3x3": (F.conv2d, (2, 3, 28, 28), (8, 3, 3, 3), {"padding": 1}),
    "one channel": (F.conv2d, (4, 1, 28, 28), (32, 1, 3, 3), {}),
    "stride": (F.conv2d, (2, 6, 15, 17), (10, 6, 3, 3), {"stride": 2, "padding": 1}),
    "7x7 stride 2": (F.conv2d, (1, 3, 32, 32), (8, 3, 7, 7), {"stride": 2, "padding": 3}),
    "1x1": (F.conv2d, (2, 16, 10, 10), (24, 16, 1, 1), {}),
    "1x1 stride 2": (F.conv2d, (2, 16, 11, 11), (24, 16, 1, 1), {"stride": 2}),
    "dilation": (F.conv2d, (2, 4, 20, 20), (6, 4, 3, 3), {"padding": 2, "dilation": 2}),
    "groups": (F.conv2d, (2, 8, 12, 12), (12, 2, 3, 3), {"padding": 1, "groups": 4}),
    "depthwise": (F.conv2d, (2, 12, 14, 14), (12, 1, 3, 3), {"padding": 1, "groups": 12}),
    "uneven": (F.conv2d, (1, 3, 9, 33), (5, 3, 2, 5), {"stride": (1, 3), "padding": (0, 2), "dilation": (2, 1)}),
    "small planes": (F.conv2d, (4, 40, 7, 7), (48, 40, 3, 3), {"padding": 1}),
    "unbatched": (F.conv2d, (3, 8, 8), (4, 3, 3, 3), {}),
    "1d": (F.conv1d, (2, 5, 100), (7, 5, 9), {"padding": 4}),
    "3d": (F.conv3d, (1, 3, 5, 6, 7), (4, 3, 2, 3, 3), {"padding": (0, 1, 1), "stride": (1, 2, 1)}),
    "transposed": (F.conv_transpose2d, (2, 6, 9, 9), (6, 4, 2, 2), {"stride": 2}),
    "transposed, output padding": (
        F.conv_transpose2d,
        (2, 6, 7, 7),
        (6, 4, 3, 3),
        {"stride": 2, "padding": 1, "output_padding": 1},
    ),
    "transposed, groups": (F.conv_transpose2d, (2, 6, 7, 7), (6, 2, 3, 3), {"stride": 3, "groups": 3}),
    "transposed, dilation": (
        F.conv_transpose2d,
        (1, 4, 6, 6),
        (4, 3, 3, 3),
        {"dilation": 3, "output_padding": 2, "stride": 1},
    ),
    "transposed 1d": (F.conv_transpose1d, (2, 4, 20), (4, 3, 4), {"stride": 2, "padding": 1}),
}


def outputs_of(function, weight, options):
    transposed = "transpose" in function.__name__
    return weight[1] * options.get("groups", 1) if transposed else weight[0]


def run(function, tensors, options, seed):
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    out = function(*leaves, **options)
    out.backward(seed.to(out.device))
    return [out, *[leaf.grad for leaf in leaves]]


def agree(function, tensors, options, tolerance):
    shape = function(*tensors, **options).shape
    seed = torch.randn(shape).to(tensors[0].dtype)
    expected = run(function, tensors, options, seed)
    actual = run(function, [tensor.to(DEVICE) for tensor in tensors], options, seed)
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.device.type == DEVICE
        torch.testing.assert_close(ours.cpu(), theirs, rtol=tolerance, atol=tolerance * 10)
    return actual, expected


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forward_and_gradients(name, dtype):
    function, shape, kernel, options = CASES[name]
    bias = outputs_of(function, kernel, options)
    tensors = [torch.randn(size, dtype=dtype) for size in (shape, kernel, (bias,))]
    agree(function, tensors, options, 1e-4 if dtype == torch.float32 else 1e-10)


@pytest.mark.parametrize("name", ["3x3", "stride", "depthwise", "transposed"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types(name, dtype):
    function, shape, kernel, options = CASES[name]
    tensors = [torch.randn(size).div(4).to(dtype) for size in (shape, kernel)]
    agree(function, tensors, options, 2e-2)


@pytest.mark.parametrize("name", ["3x3", "stride", "1x1", "depthwise", "transposed"])
def test_channels_last(name):
    function, shape, kernel, options = CASES[name]
    x, weight = torch.randn(shape), torch.randn(kernel)
    tensors = [tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, weight)]
    actual, _ = agree(function, tensors, options, 1e-4)
    assert actual[0].is_contiguous(memory_format=torch.channels_last)


def test_strided_input():
    wide = torch.randn(4, 6, 20, 40)
    for x in (wide[::2, 1::2, :, ::2], wide[:, :3, 3:17, 5:30], wide[:, :3].transpose(2, 3)):
        agree(F.conv2d, [x, torch.randn(5, 3, 3, 3)], {}, 1e-4)
        agree(F.conv2d, [x, torch.randn(5, 3, 1, 1)], {}, 1e-4)


@pytest.mark.parametrize(
    ("shape", "kernel"), [((0, 3, 8, 8), (4, 3, 3, 3)), ((2, 0, 8, 8), (4, 0, 3, 3)), ((2, 3, 0, 8), (4, 3, 1, 3))]
)
def test_empty(shape, kernel):
    x, weight = torch.randn(shape), torch.randn(kernel)
    try:
        expected = F.conv2d(x, weight)
    except RuntimeError as error:
        with pytest.raises(RuntimeError) as refused:
            F.conv2d(x.to(DEVICE), weight.to(DEVICE))
        assert str(refused.value) == str(error)
    else:
        assert F.conv2d(x.to(DEVICE), weight.to(DEVICE)).shape == expected.shape


@pytest.mark.parametrize(
    ("shape", "kernel", "options"),
    [
        ((1, 2, 4, 4), (3, 2, 5, 5), {}),
        ((1, 2, 4, 4), (3, 3, 3, 3), {}),
        ((1, 2, 4, 4), (3, 2, 3, 3), {"groups": 2}),
        ((1, 2, 4, 4), (3, 2, 3, 3), {"padding": -1}),
        ((1, 2, 4, 4), (3, 2, 3, 3), {"stride": 0}),
        ((2, 4), (3, 2, 3, 3), {}),
    ],
)
def test_errors_are_the_cpus(shape, kernel, options):
    x, weight = torch.randn(shape), torch.randn(kernel)
    with pytest.raises((RuntimeError, ValueError)) as on_cpu:
        F.conv2d(x, weight, **options)
    with pytest.raises(type(on_cpu.value)) as here:
        F.conv2d(x.to(DEVICE), weight.to(DEVICE), **options)
    assert str(here.value) == str(on_cpu.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("padding", [1, 2])
def test_a_transposed_output_of_nothing_is_what_the_cpu_makes_of_it(dtype, dims, padding):
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]
    x, weight = torch.randn(1, 2, *[4] * (dims - 1), 1).to(dtype), torch.randn(2, 3, *[2] * dims).to(dtype)
    try:
        expected = function(x, weight, padding=padding)
    except RuntimeError as error:
        with pytest.raises(RuntimeError, match="Output size is too small") as refused:
            function(x.to(DEVICE), weight.to(DEVICE), padding=padding)
        # PyTorch has a line as a plane of one row.
        assert dims == 1 or dtype == torch.bfloat16 or str(refused.value) == str(error)
    else:
        assert function(x.to(DEVICE), weight.to(DEVICE), padding=padding).shape == expected.shape


@pytest.mark.parametrize("name", ["stride", "groups", "transposed, output padding"])
def test_gradcheck(name):
    function, _, kernel, options = CASES[name]
    inputs = kernel[0] if "transpose" in function.__name__ else kernel[1] * options.get("groups", 1)
    tensors = [torch.randn(size, dtype=torch.float64) for size in ((1, inputs, 5, 5), kernel)]
    leaves = [tensor.to(DEVICE).requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(lambda x, w: function(x, w, **options), leaves, fast_mode=True)


@pytest.mark.allow_fallback
@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_other_dtypes_run_on_the_fallback(dtype):
    image, weight = torch.ones(2, 3, 5, 6, dtype=dtype), torch.full((4, 3, 3, 2), 2, dtype=dtype)
    if dtype.is_complex:
        image.requires_grad_()
    there = image.detach().to("rustorch").requires_grad_(dtype.is_complex)
    expected = torch.nn.functional.conv2d(image, weight, padding=1)
    actual = torch.nn.functional.conv2d(there, weight.to("rustorch"), padding=1)
    torch.testing.assert_close(actual.detach().cpu(), expected.detach())
    if dtype.is_complex:
        expected.real.sum().backward()
        actual.real.sum().backward()
        torch.testing.assert_close(there.grad.cpu(), image.grad)
