"""Running sums, products, extremes and logarithms of sums against the CPU."""

import pytest
import torch
from compared import ALL, FLOATS, check, check_error, numbers, on_device

VIEWS = [lambda x: x, lambda x: x.transpose(0, 2), lambda x: x[:, ::2, 1:], lambda x: x[:1].expand(4, 6, 5)]


def hostile(*size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x = numbers(*size, dtype=dtype)
    if dtype.is_floating_point:
        x.view(-1)[::17] = torch.nan
        x.view(-1)[::13] = torch.inf
        x.view(-1)[::11] = -torch.inf
    return x


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("view", VIEWS)
def test_scans(dtype, view):
    x = view(hostile(4, 6, 5, dtype=dtype))
    for dim in range(3):
        check(lambda x, d=dim: x.cummax(d), x)
        check(lambda x, d=dim: x.cummin(d), x)
        check(lambda x, d=dim: x.cumsum(d), x)
        check(lambda x, d=dim: x.cumprod(d), x)
        if dtype in FLOATS:
            check(lambda x, d=dim: x.logcumsumexp(d), x)
            check(lambda x, d=dim: x.nan_to_num(0.5, 1.0, -1.0).logcumsumexp(d), x)


def test_few():
    for x in (torch.tensor(3.0), torch.empty(0), torch.empty(3, 0, 2)):
        for name in ("cummax", "cummin", "cumsum", "cumprod", "logcumsumexp"):
            check(lambda x, f=name: getattr(x, f)(0), x)


def test_gradients():
    with_zeros = numbers(5, 7)
    with_zeros[1, 2] = with_zeros[3, 2] = with_zeros[4, 4] = 0
    for x in (numbers(5, 7), with_zeros):
        check(lambda x: x.cummax(0).values, x, grad=True)
        check(lambda x: x.cummin(1).values, x, grad=True)
        check(lambda x: x.cumprod(0), x, grad=True)
        check(lambda x: x.logcumsumexp(1), x, grad=True)
    leaf = on_device(numbers(4, 5, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: x.cummax(1).values, leaf)
    assert torch.autograd.gradcheck(lambda x: x.logcumsumexp(0), leaf)


def test_out():
    x = on_device(numbers(4, 6))
    values, indices = torch.empty(6, 4, device="rustorch").t(), torch.empty(0, dtype=torch.int64, device="rustorch")
    torch.cummax(x, 1, out=(values, indices))
    assert torch.equal(values.cpu(), x.cpu().cummax(1).values)
    torch.logcumsumexp(x, 0, out=values)
    torch.testing.assert_close(values.cpu(), x.cpu().logcumsumexp(0))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.cummax(2),
        lambda x: x.cummin(0, out=(x.double(), x.long())),
        lambda x: x.long().logcumsumexp(0),
        lambda x: x.logcumsumexp(2),
        lambda x: (x > 0).trace(),
        lambda x: (x > 0).cumsum_(0),
        lambda x: (x > 0).cumprod_(1),
        lambda x: x.cumsum(0, dtype=torch.bool),
        lambda x: x.cumprod(0, out=x > 0),
        lambda x: x[0].trace(),
    ],
)
@pytest.mark.allow_fallback  # dtypes that the CPU refuses are refused by it
def test_errors(function):
    check_error(function, numbers(2, 3))


def test_of_one_truth_or_none_there_is_nothing_to_add_up():
    for shape in ((), (0, 3)):
        check(lambda x: x.cumsum_(0), numbers(*shape, dtype=torch.bool))


@pytest.mark.parametrize("dtype", [dtype for dtype in ALL if dtype != torch.bool])
def test_trace(dtype):
    check(lambda x: x.trace(), numbers(4, 6, dtype=dtype))
    check(lambda x: x.t()[1:].trace(), numbers(4, 6, dtype=dtype))
    check(lambda x: x[:0].trace(), numbers(4, 6, dtype=dtype))
    if dtype == torch.float32:
        check(lambda x: x.trace(), numbers(4, 6), grad=True)
