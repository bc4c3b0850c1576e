"""Matrix products on the device against the CPU's: values, layouts, dtypes, gradients, errors."""

import pytest
import torch

import rustorch_device  # noqa: F401

DEVICE = "rustorch"
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.uint8]
TOLERANCE = {torch.bfloat16: 2e-2, torch.float16: 2e-3, torch.float32: 1e-5}


def make(*sizes, dtype=torch.float32):
    if dtype.is_floating_point:
        return torch.randn(sizes).to(dtype)
    return torch.randint(0, 50, sizes).to(dtype)


def on_device(value):
    """The tensor on the device with the same strides."""
    if not isinstance(value, torch.Tensor):
        return value
    if 0 in value.stride():
        kept = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in value.stride())
        return value[kept].to(DEVICE).expand(value.shape)
    copy = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=DEVICE)
    return copy.copy_(value)


def agree(op, *args, **kwargs):
    """Runs `op` on the CPU and on the device; both agree."""
    expected = op(*args, **kwargs)
    actual = op(*[on_device(arg) for arg in args], **kwargs)
    assert actual.device.type == DEVICE and actual.stride() == expected.stride()
    tolerance = TOLERANCE.get(expected.dtype, 1e-12)
    torch.testing.assert_close(actual.cpu(), expected, rtol=tolerance, atol=tolerance * 10)


def agree_on_error(op, *args):
    """Runs `op` on both; both refuse with the same exception and the same first line."""
    with pytest.raises(Exception) as on_cpu:
        op(*args)
    with pytest.raises(type(on_cpu.value)) as here:
        op(*[on_device(arg) for arg in args])
    assert str(here.value).splitlines()[0] == str(on_cpu.value).splitlines()[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("m", "n", "k"), [(1, 1, 1), (3, 5, 7), (1, 33, 64), (65, 1, 20), (64, 48, 96), (0, 3, 4), (3, 4, 0)]
)
def test_mm_and_addmm(dtype, m, n, k):
    a, b, bias = make(m, k, dtype=dtype), make(k, n, dtype=dtype), make(n, dtype=dtype)
    agree(torch.mm, a, b)
    agree(torch.addmm, bias, a, b)
    agree(torch.addmm, make(m, 1, dtype=dtype), a, b, beta=2, alpha=3)
    agree(torch.addmm, make(m, n, dtype=dtype), a, b, beta=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_strided_operands(dtype):
    a = make(40, 30, dtype=dtype)
    b = make(30, 50, dtype=dtype)
    wide = make(40, 60, dtype=dtype)
    agree(torch.mm, a.t().contiguous().t(), b)
    agree(torch.mm, a, b.t().contiguous().t())
    agree(torch.mm, wide[:, ::2], b)
    agree(torch.mm, wide[::2, 1::2], b)
    agree(torch.mm, a[:1].expand(40, 30), b)
    agree(torch.bmm, make(4, 6, 30, dtype=dtype).transpose(0, 1), b.expand(6, 30, 50))


@pytest.mark.parametrize("dtype", DTYPES)
def test_batches(dtype):
    a, b = make(5, 7, 9, dtype=dtype), make(5, 9, 4, dtype=dtype)
    agree(torch.bmm, a, b)
    agree(torch.baddbmm, make(5, 7, 4, dtype=dtype), a, b, beta=2, alpha=3)
    agree(torch.baddbmm, make(1, 4, dtype=dtype), a, b)
    agree(torch.bmm, make(0, 7, 9, dtype=dtype), make(0, 9, 4, dtype=dtype))
    agree(torch.matmul, make(2, 5, 7, 9, dtype=dtype), make(9, 4, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors(dtype):
    matrix, vector = make(17, 40, dtype=dtype), make(40, dtype=dtype)
    agree(torch.mv, matrix, vector)
    agree(torch.mv, matrix.t().contiguous().t(), make(80, dtype=dtype)[::2])
    agree(torch.addmv, make(17, dtype=dtype), matrix, vector, beta=2, alpha=3)
    agree(torch.addmv, make(1, dtype=dtype), matrix, vector)
    agree(torch.dot, vector, make(40, dtype=dtype))
    agree(torch.dot, make(0, dtype=dtype), make(0, dtype=dtype))


def test_in_place_and_out():
    a, b, c = make(8, 5), make(5, 6), make(8, 6)
    agree(lambda c, a, b: c.clone().addmm_(a, b, beta=0.5), c, a, b)
    agree(lambda c, a, b: c.clone().t().contiguous().t().addmm_(a, b), c, a, b)
    agree(lambda a, b: torch.mm(a, b, out=a.new_empty(6, 8).t()), a, b)
    agree(lambda a, b: torch.mm(a, b, out=a.new_empty(0)), a, b)
    agree(lambda c, a, b: c.clone().baddbmm_(a, b), make(2, 8, 6), make(2, 8, 5), make(2, 5, 6))
    agree(lambda y, m, v: y.clone().addmv_(m, v), make(8), a, make(5))


def test_errors_are_the_cpus():
    double = torch.float64
    agree_on_error(torch.mm, make(2, 3), make(4, 5))
    agree_on_error(torch.mm, make(2, 3), make(3))
    agree_on_error(torch.mm, make(2, 3), make(3, 4, dtype=double))
    agree_on_error(torch.addmm, make(2, 4, dtype=double), make(2, 3), make(3, 4))
    agree_on_error(torch.addmm, make(3, 4), make(2, 3), make(3, 4))
    agree_on_error(lambda c, a, b: c.addmm_(a, b), make(3, 4), make(2, 3), make(3, 4))
    agree_on_error(torch.bmm, make(2, 2, 3), make(2, 3, 4, dtype=double))
    agree_on_error(torch.bmm, make(2, 2, 3), make(3, 3, 4))
    agree_on_error(torch.addmv, make(5), make(2, 3), make(3))
    agree_on_error(torch.addmv, make(2), make(2, 3), make(3, dtype=double))
    agree_on_error(torch.dot, make(3), make(4))
    agree_on_error(torch.dot, make(3, 1), make(3))
    agree_on_error(lambda a, b: torch.mm(a, b, out=a.new_empty(2, 4).double()), make(2, 3), make(3, 4))
    agree_on_error(lambda a, b: torch.mm(a, b, out=a.new_zeros(2).expand(2, 2)), make(2, 2), make(2, 2))


def test_operands_of_two_devices_are_refused():
    with pytest.raises(RuntimeError, match="same device"):
        torch.mm(make(2, 3).to(DEVICE), make(3, 4))


def test_linear_gradients():
    layer = torch.nn.Linear(20, 10)
    x = make(6, 20).requires_grad_()
    layer(x).sin().sum().backward()
    copy = torch.nn.Linear(20, 10)
    copy.load_state_dict(layer.state_dict())
    copy.to(DEVICE)
    y = x.detach().to(DEVICE).requires_grad_()
    copy(y).sin().sum().backward()
    for actual, expected in [(y, x), (copy.weight, layer.weight), (copy.bias, layer.bias)]:
        torch.testing.assert_close(actual.grad.cpu(), expected.grad)


@pytest.mark.parametrize("op", [torch.mm, torch.mv, torch.addmm, torch.bmm])
def test_gradcheck(op):
    shapes = {
        torch.mm: [(3, 4), (4, 5)],
        torch.mv: [(3, 4), (4,)],
        torch.addmm: [(5,), (3, 4), (4, 5)],
        torch.bmm: [(2, 3, 4), (2, 4, 2)],
    }[op]
    inputs = [make(*shape, dtype=torch.float64).to(DEVICE).requires_grad_() for shape in shapes]
    assert torch.autograd.gradcheck(op, inputs)
