"""Distinct elements, look-ups and histograms against the CPU."""

import pytest
import torch
from compared import ALL, FLOATS, INTEGERS, check, check_error, numbers, on_device

VIEWS = [lambda x: x, lambda x: x.transpose(0, 2), lambda x: x[:, ::2, 1:], lambda x: x[:1].expand(4, 6, 5)]
NUMBERS = [*FLOATS, *INTEGERS]


def few(*size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Values that repeat."""
    x = (numbers(*size, dtype=torch.float64) * 1.5).round()
    return (x.abs() if dtype == torch.uint8 else x).to(dtype)


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("view", VIEWS)
def test_unique(dtype, view):
    x = view(few(4, 6, 5, dtype=dtype))
    check(lambda x: x.unique(), x)
    check(lambda x: x.unique(return_inverse=True, return_counts=True), x)
    check(lambda x: x.unique_consecutive(), x)
    check(lambda x: x.unique_consecutive(return_inverse=True, return_counts=True), x)
    for dim in range(3):
        check(lambda x, d=dim: x.unique(dim=d, return_inverse=True, return_counts=True), x)
        check(lambda x, d=dim: x.unique_consecutive(dim=d, return_inverse=True, return_counts=True), x)


@pytest.mark.parametrize("rows", [1, 5, 13, 16])
@pytest.mark.parametrize("width", [0, 1, 3])
def test_unique_slices_with_nan_are_in_the_cpus_order(rows, width):
    """Which sorts as many by insertion; of more, where NaN goes depends on all of them."""
    for seed in range(20):
        x = torch.randint(0, 3, (rows, max(width, 1)), generator=torch.Generator().manual_seed(seed)).float()
        x[torch.rand(x.shape, generator=torch.Generator().manual_seed(-seed - 1)) < 0.3] = torch.nan
        x = x[:, 0] if width == 0 else x
        for dim in range(x.dim()):
            check(lambda x, d=dim: x.unique(dim=d, return_inverse=True, return_counts=True), x)


def test_unique_of_few():
    nan = torch.tensor([torch.nan, 1.0, torch.nan, -0.0, 0.0])
    for x in (nan, torch.tensor(3.0), torch.empty(0), torch.empty(0, 3)):
        check(lambda x: x.unique(return_counts=True), x)
        check(lambda x: x.unique_consecutive(return_inverse=True), x)
    check(lambda x: x.unique(dim=0), torch.empty(0, 3))
    check(lambda x: x.unique(dim=0, return_inverse=True), few(300, 2))


@pytest.mark.parametrize("dtype", NUMBERS)
def test_searchsorted(dtype):
    x = few(3, 7, dtype=dtype)
    line = torch.arange(0 if dtype == torch.uint8 else -3, 4).to(dtype)
    rows = few(3, 9, dtype=dtype)
    order = rows.argsort(1)
    for right in (False, True):
        check(lambda x, b, r=right: torch.searchsorted(b, x, right=r), x, line)
        check(lambda x, b, r=right: torch.bucketize(x, b, right=r, out_int32=True), x.t(), line)
        check(lambda x, b, r=right: torch.searchsorted(b, x, right=r), x, rows.sort(1).values)
        check(lambda x, b, o, r=right: torch.searchsorted(b, x, right=r, sorter=o), x, rows, order)
        check(lambda b, r=right: torch.searchsorted(b, 1, right=r), line)
        check(lambda b, r=right: torch.bucketize(1.5, b, right=r), line)
    check(lambda x, b: torch.searchsorted(b, x, side="right"), x[0, 0], line)
    check(lambda x, b: torch.searchsorted(b, x), x, line.double())
    check(lambda x, b: torch.searchsorted(b, x), x[:, :0], line)
    check(lambda x, b: torch.searchsorted(b, x), x, line[:0])


def test_search_for_nan():
    check(lambda x, b: torch.searchsorted(b, x), torch.tensor([torch.nan, torch.inf, -torch.inf]), torch.arange(4.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *INTEGERS])
def test_isin(dtype):
    x, tests = few(4, 6, 5, dtype=dtype), few(7, dtype=dtype)[:3]
    for invert in (False, True):
        check(lambda x, t, i=invert: torch.isin(x, t, invert=i), x, tests)
        check(lambda x, t, i=invert: torch.isin(x.transpose(0, 2), t.double(), invert=i), x, tests)
        check(lambda x, i=invert: torch.isin(x, 1, invert=i), x)
        check(lambda t, i=invert: torch.isin(1, t, invert=i), tests)
    check(lambda x, t: torch.isin(x, t), x, tests[:0])
    check(lambda x, t: torch.isin(x, t), x, few(500, dtype=dtype))


def test_isin_of_nan():
    x = torch.tensor([torch.nan, 0.0, -0.0, 1.0])
    check(lambda x: torch.isin(x, x[:2]), x)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_bincount(dtype):
    x = few(50, dtype=dtype).abs()
    check(lambda x: x.bincount(), x)
    check(lambda x: x[::3].bincount(minlength=20), x)
    check(lambda x, w: x.bincount(w), x, numbers(50))
    check(lambda x, w: x.bincount(w), x, numbers(50, dtype=torch.float64))
    check(lambda x, w: x.bincount(w), x, numbers(50, dtype=torch.int32))
    check(lambda x: x[:0].bincount(minlength=3), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_histograms(dtype):
    x, weight = numbers(8, 9, dtype=dtype), numbers(8, 9, dtype=dtype, seed=2).abs()
    edges = torch.tensor([-1.5, -0.5, 0.0, 0.25, 2.0], dtype=dtype)
    check(lambda x, b: torch.histogram(x, b), x, edges)
    check(lambda x, b, w: torch.histogram(x.t(), b, weight=w.t()), x, edges, weight)
    check(lambda x, b, w: torch.histogram(x, b, weight=w, density=True), x, edges, weight)
    check(lambda x, a, b: torch.histogramdd(x[:, :2], (a, b)), x, edges, edges[:3])


def test_histograms_of_even_bins():
    x = numbers(8, 9)
    check(lambda x: x.histc(7), x)
    check(lambda x: x.histc(7, -1, 2), x.t())
    check(lambda x: x[:0].histc(3), x)
    check(lambda x: torch.histogram(x, 5), x)
    check(lambda x: torch.histogram(x, 5, range=(-1.0, 1.0), density=True), x)
    check(lambda x: torch.histogramdd(x[:, :3], [2, 3, 4]), x)
    check(lambda x: torch.histogramdd(x[:, :2], [2, 3], range=(-1.0, 1.0, 0.0, 2.0)), x)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.searchsorted(x, x[:1]),
        lambda x: torch.searchsorted(x[0], x, sorter=x[0].long() + 9),
        lambda x: torch.searchsorted(x[0], x, sorter=x[0]),
        lambda x: torch.searchsorted(x[0], x, right=True, side="left"),
        lambda x: torch.searchsorted(x[0] > 0, x > 0),
        lambda x: torch.bucketize(x, x),
        lambda x: torch.isin(x > 0, x > 0),
        lambda x: x.bincount(),
        lambda x: (x[0].long() - 9).bincount(),
        lambda x: x[0].long().abs().bincount(x),
        lambda x: x[:0].unique(dim=1),
        lambda x: x.unique(dim=2),
        lambda x: torch.histogram(x, x),
        lambda x: torch.histogram(x, x[0].double()),
        lambda x: torch.histogram(x, x[0], weight=x[0]),
        lambda x: torch.histogram(x, 0),
        lambda x: (x / 0).histc(3),
        lambda x: x.histc(0),
        lambda x: x.histc(3, 2, 1),
    ],
)
@pytest.mark.allow_fallback  # dtypes that the CPU refuses are refused by it
def test_errors(function):
    check_error(function, numbers(2, 3))


def test_fill_gradient():
    x = numbers(5, 6)
    check(lambda x, i, v: x.index_fill(0, i, v), x, torch.tensor([0, 2, 0]), torch.tensor(3.0), grad=True)
    assert on_device(x).unique().numel() == 30
