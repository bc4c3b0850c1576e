"""Sorting and selection along a dimension against the CPU."""

import pytest
import torch
from compared import ALL, FLOATS, assert_same, check, check_error, numbers, on_device

VIEWS = [lambda x: x, lambda x: x.transpose(0, 2), lambda x: x[:, ::2, 1:], lambda x: x[:1].expand(4, 6, 5)]


def hostile(*size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Ties everywhere; NaN, infinities and both zeros where the dtype has them."""
    x = (numbers(*size, dtype=torch.float64) * 2).round()
    if dtype.is_floating_point:
        special = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0], dtype=torch.float64)
        where = torch.randint(0, 9, size, generator=torch.Generator().manual_seed(5))
        x = torch.where(where < 5, special[where.clamp(max=4)], x)
    elif dtype == torch.uint8:
        x = x.abs()
    return x.to(dtype)


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("view", VIEWS)
def test_sort(dtype, view):
    x = view(hostile(4, 6, 5, dtype=dtype))
    for dim in range(3):
        for descending in (False, True):
            check(lambda x, d=dim, r=descending: x.sort(dim=d, descending=r, stable=True), x)
            check(lambda x, d=dim, r=descending: x.argsort(dim=d, descending=r, stable=True), x)
    check(lambda x: x.sort().values, x)
    check(lambda x: x.msort(), x)


def test_sort_of_few():
    for x in (torch.tensor(3.0), torch.empty(0), torch.empty(3, 0, 2), torch.tensor([True])):
        check(lambda x: x.sort(), x)
        check(lambda x: x.sort(descending=True), x)


@pytest.mark.parametrize("dtype", [dtype for dtype in ALL if dtype != torch.bool])
@pytest.mark.parametrize("view", VIEWS[:3])
def test_selection(dtype, view):
    x = view(hostile(4, 6, 5, dtype=dtype))
    # The CPU gives any of equal elements, so a permutation tells positions apart.
    apart = view(torch.randperm(120, generator=torch.Generator().manual_seed(3)).reshape(4, 6, 5).to(dtype))
    for dim in range(3):
        for largest in (False, True):
            check(lambda x, d=dim, r=largest: x.topk(2, d, r).values, x)
            check(lambda x, d=dim, r=largest: x.topk(3, d, r), apart)
        check(lambda x, d=dim: x.kthvalue(2, d).values, x)
        check(lambda x, d=dim: x.kthvalue(2, d, keepdim=True), apart)
        check(lambda x, d=dim: x.median(d), x)
        check(lambda x, d=dim: x.nanmedian(d, keepdim=True), x)
    check(lambda x: x.median(), x)
    check(lambda x: x.nanmedian(), x)


@pytest.mark.parametrize("dtype", ALL)
def test_mode(dtype):
    for view in VIEWS:
        x = view(hostile(4, 6, 5, dtype=dtype))
        if dtype in FLOATS:
            x = x.nan_to_num(3.0)  # The CPU's sort by `<` gives anything where there are NaNs.
        for dim in range(3):
            check(lambda x, d=dim: x.mode(d), x)
            check(lambda x, d=dim: x.mode(d, keepdim=True), x)


def test_selection_of_few():
    for x in (torch.tensor(3.0), torch.tensor([2.0])):
        for function in (
            lambda x: x.topk(1),
            lambda x: x.kthvalue(1),
            lambda x: x.median(0),
            lambda x: x.nanmedian(0, keepdim=True),
            lambda x: x.mode(0),
            lambda x: x.median(),
        ):
            check(function, x)
    for x in (torch.empty(0), torch.empty(0, dtype=torch.int32)):
        check(lambda x: x.nanmedian(), x)
        check(lambda x: x.topk(0), x)
    for x in (torch.empty(3, 0), torch.empty(0, 3)):
        check(lambda x: x.topk(0, 1), x)
    check(lambda x: x.median(1), torch.empty(0, 3))
    check(lambda x: x.mode(1), torch.empty(0, 3))
    check(lambda x: x.kthvalue(1, 1), torch.empty(0, 3))


def test_quantiles():
    x = hostile(7, 9).nan_to_num(0.0, 9.0, -9.0)
    x[2, 3] = torch.nan
    for function in (torch.quantile, torch.nanquantile):
        for interpolation in ("linear", "lower", "higher", "nearest", "midpoint"):
            check(lambda x, f=function, i=interpolation: f(x, 0.3, 1, interpolation=i), x)
            check(lambda x, q, f=function, i=interpolation: f(x, q, interpolation=i), x, torch.tensor([0.0, 0.7, 1.0]))


def test_gradients():
    x = torch.randperm(35, generator=torch.Generator().manual_seed(4)).reshape(5, 7).double()
    for function in (
        lambda x: x.sort(0).values,
        lambda x: x.sort(1, descending=True).values,
        lambda x: x.msort(),
        lambda x: x.topk(3, 1).values,
        lambda x: x.kthvalue(2, 0).values,
        lambda x: x.median(1).values,
        lambda x: x.median(),
        lambda x: x.nanmedian(0).values,
        lambda x: x.nanmedian(),
        lambda x: x.mode(1).values,
        lambda x: x.quantile(0.3, 1),
    ):
        check(function, x, grad=True)
    leaf = on_device(x).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: x.sort(0).values, leaf)
    assert torch.autograd.gradcheck(lambda x: x.topk(3).values, leaf)


def test_out():
    x = hostile(4, 6)
    expected = x.sort(dim=0, stable=True)
    values, indices = torch.empty(6, 4, device="rustorch").t(), torch.empty(0, dtype=torch.int64, device="rustorch")
    torch.sort(on_device(x), dim=0, stable=True, out=(values, indices))
    assert_same(values, expected.values)
    assert_same(indices, expected.indices)
    moved = on_device(x)
    torch.sort(moved, dim=0, stable=True, out=(moved, indices))
    assert_same(moved, expected.values)
    torch.topk(on_device(x), 4, 0, out=(values, indices))
    assert_same(values, x.topk(4, 0).values)
    value, index = torch.empty(6, device="rustorch"), torch.empty(6, dtype=torch.int64, device="rustorch")
    torch.median(on_device(x), 0, out=(value, index))
    assert_same(value, x.median(0).values)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.sort(2),
        lambda x: x.topk(4, 1),
        lambda x: x.topk(-1, 1),
        lambda x: (x > 0).topk(1),
        lambda x: x.kthvalue(0),
        lambda x: x.kthvalue(4),
        lambda x: (x > 0).kthvalue(1),
        lambda x: (x > 0).median(),
        lambda x: x[:, :0].median(1),
        lambda x: x[:, :0].kthvalue(1, 1),
        lambda x: x[:, :0].mode(1),
        lambda x: x.median(0, out=(x.double(), x.long())),
        lambda x: x.sort(0, out=(x.double(), x.long())),
        lambda x: torch.complex(x, x).sort(),
    ],
)
@pytest.mark.allow_fallback  # complex is the CPU's
def test_errors(function):
    check_error(function, numbers(2, 3))


def test_results_do_not_depend_on_the_thread_count():
    x = on_device(hostile(64, 700, dtype=FLOATS[2]))
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(x.sort(1).indices.cpu())
    torch.set_num_threads(before)
    assert torch.equal(*results)
