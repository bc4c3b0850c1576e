"""take, put, masked_scatter, nonzero_static, repeat_interleave, index_reduce against the CPU."""

import pytest
import torch
from compared import ALL, FLOATS, INTEGERS, check, check_error, numbers

VIEWS = [lambda x: x, lambda x: x.transpose(0, 2), lambda x: x[:, ::2, 1:]]


def places(*size: int, below: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(-below, below, size, generator=generator)


@pytest.mark.parametrize("dtype", [*ALL, torch.complex64])
@pytest.mark.parametrize("view", VIEWS)
def test_moves(dtype, view):
    x = view(numbers(4, 6, 5).to(dtype) if dtype.is_complex else numbers(4, 6, 5, dtype=dtype))
    i = places(7, 3, below=x.numel())
    apart = torch.randperm(x.numel(), generator=torch.Generator().manual_seed(2))[:21].reshape(7, 3)
    source = x.flatten()[:21].reshape(3, 7)
    mask = numbers(6, 1, dtype=torch.bool) if x.shape[1] == 6 else numbers(*x.shape, dtype=torch.bool)
    check(lambda x, i: x.take(i), x, i)
    check(lambda x, i: x.take(i.t()), x, i)
    check(lambda x, i, s: x.put(i, s), x, apart, source)
    check(lambda x, m, s: x.masked_scatter(m, s), x, mask, x.flatten().flip(0))
    check(lambda x, m, s: x.masked_scatter(m, s), x, numbers(*x.shape, dtype=torch.bool), x.flatten())


@pytest.mark.parametrize("dtype", ALL)
def test_accumulation(dtype):
    x, source = numbers(4, 6, dtype=dtype), numbers(9, dtype=dtype, seed=2)
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if dtype in FLOATS[2:] else {}
    check(lambda x, i, s: x.put(i, s, accumulate=True), x, places(9, below=24), source, **tolerance)


@pytest.mark.parametrize("dtype", ALL)
def test_nonzero_static(dtype):
    x = numbers(4, 6, dtype=dtype)
    x[1:3, 2:] = 0
    for size in (0, 3, 15, 40):
        check(lambda x, n=size: torch.nonzero_static(x, size=n), x)
        check(lambda x, n=size: torch.nonzero_static(x.t(), size=n, fill_value=7), x)
    check(lambda x: torch.nonzero_static(x, size=2), torch.tensor(1.0))
    check(lambda x: torch.nonzero_static(x[:0], size=2), x)


def test_repeat_interleave():
    x, repeats = numbers(4, 3), torch.tensor([2, 0, 3, 1])
    check(lambda r: torch.repeat_interleave(r), repeats)
    check(lambda r: torch.repeat_interleave(r.int()[::2]), repeats)
    check(lambda r: torch.repeat_interleave(r[:0]), repeats)
    check(lambda x, r: x.repeat_interleave(r, 0), x, repeats, grad=True)
    check(lambda x, r: x.repeat_interleave(r, 0, output_size=6), x, repeats)
    check(lambda x: x.repeat_interleave(3, 1), x, grad=True)
    check(lambda x, r: x.repeat_interleave(r[2]), x, repeats)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
@pytest.mark.parametrize("reduce", ["prod", "mean", "amax", "amin"])
def test_index_reduce(dtype, reduce):
    x, rows = numbers(5, 4, dtype=dtype), torch.tensor([1, 0, 1, 4])
    source = numbers(4, 4, dtype=dtype, seed=3)
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if dtype in FLOATS[2:] else {}
    for include_self in (True, False):
        check(
            lambda x, i, s, r=reduce, k=include_self: x.index_reduce(0, i, s, r, include_self=k),
            x,
            rows,
            source,
            **tolerance,
        )
        check(
            lambda x, i, s, r=reduce, k=include_self: x.t().index_reduce(1, i.int(), s.t(), r, include_self=k),
            x,
            rows,
            source,
            **tolerance,
        )


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_scatter_of_a_number(dtype):
    x, i = numbers(5, 4, dtype=dtype), places(3, 4, below=5).abs() % 5
    for reduce in ("add", "multiply"):
        check(lambda x, i, r=reduce: x.scatter(0, i, 2, reduce=r), x, i)


@pytest.mark.filterwarnings("ignore:scatter_reduce:UserWarning", "ignore:index_reduce:UserWarning")
def test_gradients():
    x, source, i = numbers(5, 6), numbers(9, seed=2), places(9, below=30)
    apart = torch.randperm(30, generator=torch.Generator().manual_seed(2))[:9]
    check(lambda x, i: x.take(i), x, i, grad=True)
    check(lambda x, i: x.t().take(i), x, i, grad=True)
    check(lambda x, i, s: x.put(i, s), x, apart, source, grad=True)
    check(lambda x, i, s: x.put(i, s, accumulate=True), x, i, source, grad=True)
    check(lambda x, m, s: x.masked_scatter(m, s), x, numbers(5, 6, dtype=torch.bool), numbers(6, 6), grad=True)
    check(lambda x, m: x.masked_select(m), x, numbers(6, dtype=torch.bool), grad=True)
    rows, slices = torch.tensor([1, 0, 1, 4]), numbers(4, 6, seed=4)
    for reduce in ("prod", "mean", "amax", "amin"):
        check(lambda x, i, s, r=reduce: x.index_reduce(0, i, s, r), x, rows, slices, grad=True)
        check(lambda x, i, s, r=reduce: x.scatter_reduce(0, i[:, None].expand(4, 6), s, r), x, rows, slices, grad=True)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, i: x.take(i),
        lambda x, i: x.take(-i),
        lambda x, i: x.take(i.int()),
        lambda x, i: x[:0].take(i),
        lambda x, i: x.put(i, x[0]),
        lambda x, i: x.put(i % 6, x),
        lambda x, i: x.put(i % 6, x[0].double()),
        lambda x, i: x.put((i % 6).int(), x[0]),
        lambda x, i: x.masked_scatter(x > -9, x[0]),
        lambda x, i: x.masked_scatter(i, x),
        lambda x, i: x.masked_scatter(x > 0, x.double()),
        lambda x, i: torch.nonzero_static(x, size=-1),
        lambda x, i: torch.repeat_interleave(-i),
        lambda x, i: torch.repeat_interleave(x[0]),
        lambda x, i: torch.repeat_interleave(i, output_size=3),
        lambda x, i: x.index_reduce(0, i, x[:2], "mean"),
        lambda x, i: x.index_reduce(0, i % 3, x[:2], "sum"),
        lambda x, i: x.index_reduce(0, i % 3, x, "mean"),
    ],
)
def test_errors(function):
    check_error(function, numbers(3, 2), torch.tensor([0, 7]))
