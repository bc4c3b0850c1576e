"""Reductions and running totals agree with the CPU: values, gradients, dtypes, layouts, errors."""

import warnings

import pytest
import torch
from compared import check, check_error

import rustorch_device  # noqa: F401

DEVICE = "rustorch"
FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool]
TOLERANCE = {torch.bfloat16: 2e-2, torch.float16: 4e-3, torch.float32: 2e-6, torch.float64: 1e-12}
SHAPES = [(), (1,), (7,), (3, 5), (4, 3, 65), (2, 3, 4, 5), (1030,), (33, 130)]


def make(shape, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.bool:
        return torch.rand(shape, generator=generator) > 0.4
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0 if dtype == torch.uint8 else -9, 10, shape, generator=generator).to(dtype)


def layouts(tensor):
    """The tensor in several layouts, each with its twin on the device."""
    yield tensor, tensor.to(DEVICE)
    if tensor.dim() > 1:
        swapped = tensor.transpose(0, -1).contiguous()
        yield swapped.transpose(0, -1), swapped.to(DEVICE).transpose(0, -1)
        wide = tensor.repeat_interleave(2, -1)
        yield wide[..., ::2], wide.to(DEVICE)[..., ::2]
    if tensor.dim() > 0:
        expanded = (3, *tensor.shape)
        yield tensor.expand(expanded), tensor.to(DEVICE).expand(expanded)


def same(actual, expected, dtype=None):
    for a, e in zip(*((x,) if isinstance(x, torch.Tensor) else x for x in (actual, expected)), strict=True):
        assert a.device.type == DEVICE
        assert a.dtype == e.dtype
        assert a.shape == e.shape
        tolerance = TOLERANCE.get(dtype or e.dtype, 0)
        torch.testing.assert_close(a.cpu(), e, rtol=tolerance * 4, atol=tolerance * 4, equal_nan=True)


def dims_of(tensor):
    rank = tensor.dim()
    yield from range(-rank, rank)
    if rank > 1:
        yield (0, -1)
        yield tuple(range(rank))


OVER_DIMS = {
    "sum": torch.sum,
    "mean": torch.mean,
    "amax": torch.amax,
    "amin": torch.amin,
    "any": torch.any,
    "all": torch.all,
    "var": torch.var,
    "std": torch.std,
    "var_mean": torch.var_mean,
    "std_mean": torch.std_mean,
    "count_nonzero": lambda x, dim, keepdim: torch.count_nonzero(x, dim),
    "norm": lambda x, dim, keepdim: torch.linalg.vector_norm(x, 2, dim, keepdim),
    "norm_1": lambda x, dim, keepdim: torch.linalg.vector_norm(x, 1, dim, keepdim),
    "norm_inf": lambda x, dim, keepdim: torch.linalg.vector_norm(x, float("inf"), dim, keepdim),
    "norm_3": lambda x, dim, keepdim: torch.norm(x, 3, dim, keepdim),
}
ONE_DIM = {
    "prod": torch.prod,
    "max": torch.max,
    "min": torch.min,
    "argmax": torch.argmax,
    "argmin": torch.argmin,
    "cumsum": lambda x, dim, keepdim: torch.cumsum(x, dim),
    "cumprod": lambda x, dim, keepdim: torch.cumprod(x, dim),
}
WHOLE = ["sum", "mean", "prod", "max", "min", "argmax", "argmin", "any", "all", "var", "std", "norm"]
ONLY_FLOATS = ("mean", "var", "std", "norm")


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS, ids=str)
@pytest.mark.parametrize("name", [*OVER_DIMS, *ONE_DIM])
def test_over_dimensions(name, dtype):
    if name.startswith(ONLY_FLOATS) and not dtype.is_floating_point:
        pytest.skip("defined for floats")
    if name.startswith("arg") and dtype == torch.bool:
        pytest.skip("refused for bool")
    op = OVER_DIMS.get(name) or ONE_DIM[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # degrees of freedom
        for shape in SHAPES:
            for cpu, device in layouts(make(shape, dtype)):
                for dim in dims_of(cpu):
                    if name in ONE_DIM and not isinstance(dim, int):
                        continue
                    for keepdim in (False, True):
                        expected = op(cpu, dim, keepdim)
                        if name in ("prod", "cumprod") and dtype.is_floating_point and cpu.size(dim) > 40:
                            continue
                        same(op(device, dim, keepdim), expected, dtype if dtype.is_floating_point else None)


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS, ids=str)
@pytest.mark.parametrize("name", WHOLE)
def test_of_everything(name, dtype):
    if name in ONLY_FLOATS and not dtype.is_floating_point:
        pytest.skip("defined for floats")
    if name.startswith("arg") and dtype == torch.bool:
        pytest.skip("refused for bool")
    op = getattr(torch, name)
    for shape in [(), (7,), (3, 5), (2, 3, 4)]:
        for cpu, device in layouts(make(shape, dtype)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                same(op(device), op(cpu))


@pytest.mark.parametrize("to", [torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.bool, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["sum", "prod", "cumsum"])
def test_dtype_argument(name, dtype, to):
    if name == "cumsum" and to == torch.bool:
        pytest.skip("refused by the CPU")
    cpu = make((5, 6), dtype)
    op = getattr(torch, name)
    same(op(cpu.to(DEVICE), 1, dtype=to), op(cpu, 1, dtype=to), torch.bfloat16 if torch.bfloat16 in (dtype, to) else to)


def test_nan_wins_and_ties_go_to_the_first():
    cpu = torch.tensor([[1.0, float("nan"), 3.0, float("nan")], [2.0, 2.0, -1.0, -1.0]])
    for op in (torch.max, torch.min):
        for dim in (0, 1):
            same(op(cpu.to(DEVICE), dim), op(cpu, dim))
        assert op(cpu.to(DEVICE), 1).indices.tolist() == op(cpu, 1).indices.tolist()
    assert torch.argmax(cpu.to(DEVICE)).item() == torch.argmax(cpu).item() == 1


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
@pytest.mark.parametrize("name", ["sum", "prod", "any", "all", "mean", "var"])
def test_of_nothing(name, shape):
    op = getattr(torch, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for dim in range(len(shape)):
            same(op(torch.empty(shape, device=DEVICE), dim), op(torch.empty(shape), dim))
        same(op(torch.empty(shape, device=DEVICE)), op(torch.empty(shape)))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.max(),
        lambda x: x.amax(0),
        lambda x: x.max(0),
        lambda x: x.argmax(),
        lambda x: x.argmin(0),
        lambda x: x.sum(5),
        lambda x: x.sum((0, 0)),
        lambda x: x.mean(dtype=torch.int64),
        lambda x: x.to(torch.int64).var(),
        lambda x: x.to(torch.int64).mean(),
        lambda x: torch.linalg.vector_norm(x, float("inf"), 0),
        lambda x: torch.amax(x, 1, out=x.new_empty(0, dtype=torch.int64)),
        lambda x: torch.ones_like(x, dtype=torch.bool).argmax(),
        lambda x: x.cumsum(3),
    ],
)
def test_errors_are_those_of_the_cpu(call):
    with pytest.raises(Exception) as expected:
        call(torch.empty(0, 3))
    with pytest.raises(type(expected.value)) as actual:
        call(torch.empty(0, 3, device=DEVICE))
    assert type(actual.value) is type(expected.value)


def test_out():
    cpu = make((4, 5), torch.float32)
    device = cpu.to(DEVICE)
    for name in ("sum", "mean", "amax", "any", "all", "argmax", "cumsum", "var", "std"):
        op = getattr(torch, name)
        expected = op(cpu, 1)
        out = torch.empty((expected.shape[0] * 2, *expected.shape[1:]), dtype=expected.dtype, device=DEVICE)[::2]
        pointer = out.data_ptr()
        assert op(device, 1, out=out) is out
        assert out.data_ptr() == pointer
        same(out, expected)
    values, indices = torch.empty(4, device=DEVICE), torch.empty(4, dtype=torch.int64, device=DEVICE)
    torch.max(device, 1, out=(values, indices))
    same((values, indices), tuple(torch.max(cpu, 1)))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.sum(1),
        lambda x: x.mean((0, 2)),
        lambda x: x.prod(1),
        lambda x: x.amax((0, 1)),
        lambda x: x.max(2)[0],
        lambda x: x.min(),
        lambda x: x.var(1),
        lambda x: x.std((0, 2), correction=0),
        lambda x: torch.linalg.vector_norm(x, 2, 1),
        lambda x: torch.linalg.vector_norm(x, 3),
        lambda x: x.cumsum(1),
        lambda x: x.cumprod(2),
        lambda x: x.logsumexp(1),
    ],
)
def test_gradients(call):
    x = make((3, 4, 2), torch.float64).to(DEVICE).requires_grad_()
    assert torch.autograd.gradcheck(call, (x,))


def test_running_totals_in_place():
    cpu = make((5, 4), torch.float32)
    device = cpu.to(DEVICE)
    same(device.cumsum_(0), cpu.cumsum_(0))
    same(device.t().cumprod_(0), cpu.t().cumprod_(0))


def test_warns_where_the_cpu_does():
    with pytest.warns(UserWarning, match="degrees of freedom"):
        torch.ones(1, device=DEVICE).var()


def test_large_sums_are_accurate():
    x = torch.rand(1 << 20)
    exact = x.double().sum().item()
    assert abs(x.to(DEVICE).sum().item() - exact) / exact < 3e-7


@pytest.mark.parametrize("reduce", ["max", "mean", "min", "sum", "prod"])
def test_segments(reduce):
    lengths, offsets = torch.tensor([2, 0, 3, 1]), torch.tensor([0, 2, 2, 5, 6])
    data = torch.randn(6, 3, 2)

    def by_lengths(data, lengths, initial=None):
        return torch.segment_reduce(data, reduce, lengths=lengths, axis=0, initial=initial)

    def by_offsets(data, offsets):
        return torch.segment_reduce(data, reduce, offsets=offsets, axis=0, unsafe=True)

    check(by_lengths, data, lengths, grad=True)
    check(lambda data, lengths: by_lengths(data, lengths, 1.5), data, lengths, grad=True)
    check(by_offsets, data.transpose(1, 2), offsets)
    # Small whole numbers: the CPU rounds every partial sum to bfloat16.
    check(by_lengths, torch.randint(-2, 3, (6, 3, 2)).bfloat16(), lengths)
    check_error(by_lengths, data, torch.tensor([2, 5]))
    check_error(by_lengths, data, torch.tensor([7, -1]))


@pytest.mark.parametrize("size", [2, 100, 5000])
@pytest.mark.parametrize("scale", [3e19, 3e38, 1e-25, 1e-38])
def test_spreads_whose_squares_no_float_holds(scale, size):
    """In f64 they are numbers."""
    signs = torch.ones(size, dtype=torch.float64)
    signs[::2] = -1
    for dtype in (torch.float32, torch.bfloat16):
        values = (signs * scale).to(dtype)
        wide = values.double()
        near = values.to("rustorch")
        close = 1e-5 if dtype == torch.float32 else 4e-3
        for table, dims in ((near[None].repeat(3, 1), 1), (near[:, None].repeat(1, 3), 0), (near, 0)):
            for actual in (table.std(dims), torch.std_mean(table, dims)[0]):
                expected = wide.std().to(dtype).expand(actual.shape)
                torch.testing.assert_close(actual.cpu(), expected, rtol=close, atol=0)
            variance, mean = torch.var_mean(table, dims)
            torch.testing.assert_close(variance.cpu(), wide.var().to(dtype).expand(variance.shape), rtol=close, atol=0)
            assert (mean.cpu() == wide.mean().to(dtype)).all()
    assert abs(torch.tensor([3e19, -3e19], device="rustorch").std().item() / 4.242640687e19 - 1) < 1e-6


@pytest.mark.parametrize("shape", [(8, 16), (9, 33), (17, 15), (8, 1024), (3, 40)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32, torch.uint8, torch.bfloat16], ids=str)
def test_running_totals_along_dense_lines(dtype, shape):
    tensor = (torch.randn(shape) * 4).abs().to(dtype)
    there = tensor.to("rustorch")
    same(there.cumsum(1), tensor.cumsum(1))
    for name in ("cummax", "cummin"):
        values, positions = getattr(there, name)(1)
        wanted, wanted_positions = getattr(tensor, name)(1)
        assert torch.equal(values.cpu(), wanted) and torch.equal(positions.cpu(), wanted_positions)
    if dtype.is_floating_point:
        in_place = there.clone()
        assert torch.equal(in_place.cumsum_(1), there.cumsum(1))
