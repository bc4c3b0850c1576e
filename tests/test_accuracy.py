"""Rounding errors beside f64. The bounds are those of PyTorch's CPU kernels (AVX-512, MKL, oneDNN) and half as much
again, as constants: what the CPU's own errors are depends on the processor that a test runs on."""

import numpy
import pytest
import torch
import torch.nn.functional as F

DEVICE = "rustorch"
EPSILON = 2.0**-24  # half a unit in the last place of one


def units(result: torch.Tensor, exact: torch.Tensor) -> float:
    """The largest error in units in the last place, of results that are normal numbers."""
    rounded = exact.float()
    normal = torch.isfinite(rounded) & (exact.abs() > torch.finfo(torch.float32).tiny)
    unit = torch.from_numpy(numpy.spacing(rounded.abs().numpy())).double()
    return ((result.cpu().double() - exact).abs() / unit)[normal].max().item()


def spread_of(error: torch.Tensor) -> float:
    return error.double().square().mean().sqrt().item()


def normals(scale: float) -> torch.Tensor:
    return torch.randn(100_000) * scale


FUNCTIONS = {
    # The CPU's largest errors: exp 0.55, tanh 0.57, tan 0.54, atan 0.51, atanh 0.51, log 0.54, erfc 0.81, mish 2.8.
    "exp": (torch.exp, normals, 0.82),
    "tanh": (torch.tanh, normals, 0.85),
    "tan": (torch.tan, normals, 0.81),
    "atan": (torch.atan, normals, 0.77),
    "atanh": (torch.atanh, lambda scale: torch.rand(100_000) * 2 - 1, 0.77),
    "log": (torch.log, lambda scale: normals(scale).abs(), 0.81),
    "erfc": (torch.erfc, normals, 1.22),
    "sin": (torch.sin, normals, 0.9),
    "sigmoid": (torch.sigmoid, normals, 3.3),
    "silu": (F.silu, normals, 3.2),
    "mish": (F.mish, normals, 4.2),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("scale", [0.01, 1, 8])
def test_functions_round_once_or_little_more(name, scale):
    function, draw, bound = FUNCTIONS[name]
    x = draw(scale)
    assert units(function(x.to(DEVICE)), function(x.double())) <= bound


@pytest.mark.parametrize("function", [torch.tan, torch.atan, torch.atanh])
def test_functions_at_their_ends(function):
    ends = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        1.5,
        torch.inf,
        -torch.inf,
        torch.nan,
        1e-40,
        -1e-40,
        1e-20,
        3e9,
        -1e20,
        3.4e38,
        1.5707964,
    ]
    x = torch.tensor(ends)
    result = function(x.to(DEVICE)).cpu()
    exact = function(x.double()).float()
    torch.testing.assert_close(result, exact, rtol=2e-7, atol=0, equal_nan=True)
    assert torch.equal(result.signbit() & ~result.isnan(), exact.signbit() & ~exact.isnan())


@pytest.mark.parametrize("count", [1000, 16_000, 100_000, 1_000_000])
def test_products_of_vectors(count):
    """An error that grows with the root of the count at most."""
    errors = []
    for _ in range(max(4, 200_000 // count)):
        a, b = torch.rand(count), torch.rand(count)
        exact = torch.dot(a.double(), b.double())
        errors.append((torch.dot(a.to(DEVICE), b.to(DEVICE)).cpu() - exact) / exact)
    assert spread_of(torch.stack(errors)) <= 3 * EPSILON


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("shape", [(64, 512), (512, 64), (1000, 100), (20_000, 16)])
@pytest.mark.parametrize(
    "function", [torch.sum, torch.mean, torch.var, torch.std], ids=lambda function: function.__name__
)
def test_reductions(function, shape, dim):
    x = torch.rand(shape)
    exact = function(x.double(), dim)
    error = function(x.to(DEVICE), dim).cpu() / exact - 1
    assert spread_of(error) <= 1.8 * EPSILON


@pytest.mark.parametrize("channels", [16, 64, 256])
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_convolutions(channels, size, layout):
    """Sums of many products, and their gradients: relative to a result's spread."""
    x, weight = torch.randn(2, channels, 14, 14), torch.randn(channels, channels, size, size)
    outcomes = []
    for dtype, device in ((torch.float64, "cpu"), (torch.float32, DEVICE)):
        inputs = [tensor.to(device, dtype, memory_format=layout).requires_grad_() for tensor in (x, weight)]
        out = F.conv2d(*inputs, padding=size // 2)
        out.backward(torch.arange(14, device=device, dtype=dtype).sin().expand_as(out))
        outcomes.append([out.detach().cpu(), *(tensor.grad.cpu() for tensor in inputs)])
    for exact, result in zip(*outcomes, strict=True):
        assert spread_of(result - exact) / spread_of(exact) <= 8 * EPSILON
