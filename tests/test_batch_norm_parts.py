"""The parts of batch normalisation that `SyncBatchNorm` is made of, beside their formulas in f64.

PyTorch's CPU has none of them but `batch_norm_update_stats`. The formulas are those of its kernels for CUDA
(aten/src/ATen/native/cuda/Normalization.cuh).
"""

import pytest
import torch
from compared import DEVICE, FLOATS, numbers, on_device

EPS, MOMENTUM = 1e-5, 0.3
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-13, torch.bfloat16: 8e-3, torch.float16: 1e-3}
LAYOUTS = {
    "dense": lambda x: x,
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(0, 3).contiguous().transpose(0, 3),
}
SHAPES = [(4, 3, 5, 7), (1, 2, 1, 3), (2, 17, 3, 1)]


def statistics_dtype(dtype):
    return torch.float32 if dtype.itemsize == 2 else dtype


def close(actual, expected, dtype):
    """Beside f64, rounded to `dtype` once."""
    assert actual.device.type == DEVICE and actual.dtype == dtype
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(actual.cpu().double(), expected, rtol=tolerance, atol=tolerance * 4)


def over_channels(x):
    """Each channel's elements, as a row."""
    return x.double().transpose(0, 1).reshape(x.shape[1], -1)


def beside(x, channels):
    return channels.double().view(1, -1, *(1,) * (x.dim() - 2))


@pytest.fixture(params=SHAPES, ids=str)
def shape(request):
    return request.param


@pytest.fixture(params=FLOATS, ids=str)
def dtype(request):
    return request.param


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return LAYOUTS[request.param]


def parameters(channels, dtype):
    """A weight, a bias, a mean and an inverse deviation."""
    rows = [numbers(channels, dtype=dtype, seed=seed) for seed in range(4)]
    return [*rows[:3], rows[3].abs() + 0.5]


def test_stats(shape, dtype, layout):
    x = layout(numbers(*shape, dtype=dtype) * 2 + 1)
    mean, invstd = torch.batch_norm_stats(on_device(x), EPS)
    rows = over_channels(x)
    close(mean, rows.mean(1), statistics_dtype(dtype))
    close(invstd, 1 / (rows.var(1, correction=0) + EPS).sqrt(), statistics_dtype(dtype))


def test_stats_of_a_constant_without_eps():
    mean, invstd = torch.batch_norm_stats(torch.full((4, 2), 3.0, device=DEVICE), 0.0)
    assert mean.tolist() == [3, 3] and invstd.tolist() == [0, 0]


def gathered(mean, invstd, counts):
    """What the kernel for CUDA does for a channel, in f64."""
    average = spread = n = 0.0
    for m, deviation, count in zip(mean.tolist(), invstd.tolist(), counts.tolist(), strict=True):
        own = ((1 / deviation) ** 2 - EPS) * count
        factor = 1 / (n + count)
        spread += own + (average - m) ** 2 * n * count * factor
        average = n * factor * average + count * factor * m
        n += count
    return average, spread, n


@pytest.mark.parametrize("running", [None, *FLOATS], ids=str)
@pytest.mark.parametrize("width", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("counts", [[5], [4, 4], [3, 1, 600]], ids=str)
def test_gather_stats(width, running, counts):
    world, channels = len(counts), 4
    mean = numbers(world, channels, dtype=width)
    invstd = numbers(world, channels, dtype=width, seed=1).abs() + 0.5
    averages = None if running is None else [numbers(channels, dtype=running, seed=seed) for seed in (2, 3)]
    moved = [None, None] if averages is None else on_device(averages)
    x = torch.empty(2, channels, dtype=width, device=DEVICE)
    given = torch.tensor(counts, dtype=running or width).to(DEVICE)
    results = torch.batch_norm_gather_stats_with_counts(
        x, mean.to(DEVICE), invstd.to(DEVICE), *moved, MOMENTUM, EPS, given
    )
    columns = [gathered(mean[:, at], invstd[:, at], given.double()) for at in range(channels)]
    average, spread, n = torch.tensor(columns, dtype=torch.float64).t()
    close(results[0], average, width)
    close(results[1], 1 / (spread / n + EPS).sqrt(), width)
    if averages is not None:
        for now, before, batch in zip(moved, averages, (average, spread / (n - 1)), strict=True):
            close(now, (1 - MOMENTUM) * before.double() + MOMENTUM * batch, running)


def test_gather_stats_of_one_count_gives_the_same_as_of_equal_counts():
    x = torch.empty(2, 3, device=DEVICE)
    mean, invstd = numbers(2, 3).to(DEVICE), numbers(2, 3, seed=1).abs().to(DEVICE)
    counts = torch.full((2,), 7.0, device=DEVICE)
    results = []
    for call, count in ((torch.batch_norm_gather_stats, 7), (torch.batch_norm_gather_stats_with_counts, counts)):
        running = [torch.zeros(3, device=DEVICE), torch.ones(3, device=DEVICE)]
        results.append([*call(x, mean, invstd, *running, MOMENTUM, EPS, count), *running])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_gather_stats_of_no_process():
    """Where every rank's batch was empty, the running statistics decay to nothing, as on CUDA."""
    x, none = torch.empty(0, 3, device=DEVICE), torch.empty(0, 3, device=DEVICE)
    running = [torch.full((3,), 2.0, device=DEVICE) for _ in range(2)]
    counts = torch.empty(0, device=DEVICE)
    mean, invstd = torch.batch_norm_gather_stats_with_counts(x, none, none, *running, 0.25, EPS, counts)
    assert mean.tolist() == [0, 0, 0] and invstd.isnan().all()
    assert [each.tolist() for each in running] == [[1.5] * 3] * 2


@pytest.mark.parametrize("present", [True, False])
def test_elemt(shape, dtype, layout, present):
    x = layout(numbers(*shape, dtype=dtype))
    weight, bias, mean, invstd = parameters(shape[1], statistics_dtype(dtype))
    scale, shift = (weight, bias) if present else (torch.ones_like(weight), torch.zeros_like(bias))
    given = on_device([weight, bias]) if present else [None, None]
    actual = torch.batch_norm_elemt(on_device(x), *given, *on_device([mean, invstd]), EPS)
    expected = (x.double() - beside(x, mean)) * beside(x, invstd) * beside(x, scale) + beside(x, shift)
    close(actual, expected, dtype)
    assert actual.stride() == torch.nn.functional.batch_norm(on_device(x), None, None, training=True).stride()
    out = torch.empty(0, dtype=dtype, device=DEVICE)
    torch.batch_norm_elemt(on_device(x), *given, *on_device([mean, invstd]), EPS, out=out)
    assert torch.equal(out, actual)


@pytest.mark.parametrize("mask", [(True, True, True), (True, False, False), (False, True, True)], ids=str)
def test_backward_reduce(shape, dtype, layout, mask):
    x, grad = layout(numbers(*shape, dtype=dtype)), numbers(*shape, dtype=dtype, seed=9)
    weight, _, mean, invstd = parameters(shape[1], statistics_dtype(dtype))
    results = torch.batch_norm_backward_reduce(on_device(grad), on_device(x), *on_device([mean, invstd, weight]), *mask)
    grads, products = over_channels(grad), over_channels(grad.double() * (x.double() - beside(x, mean)))
    expected = [grads.sum(1), products.sum(1), products.sum(1) * invstd.double(), grads.sum(1)]
    for result, value, sizes, wanted in zip(
        results, expected, (grads, products, products, grads), (mask[0], *mask), strict=True
    ):
        assert (result is not None) == wanted
        if wanted:
            assert result.dtype == statistics_dtype(dtype)
            # Of many terms, beside their magnitudes.
            error = (result.cpu().double() - value).abs()
            assert (error <= 3e-6 * (1 + sizes.abs().sum(1)) * (1 + invstd.double())).all()


@pytest.mark.parametrize("present", [True, False])
def test_backward_elemt(shape, dtype, layout, present):
    x, grad = layout(numbers(*shape, dtype=dtype)), numbers(*shape, dtype=dtype, seed=9)
    weight, _, mean, invstd = parameters(shape[1], statistics_dtype(dtype))
    sums = [numbers(shape[1], dtype=statistics_dtype(dtype), seed=seed) for seed in (5, 6)]
    counts = torch.tensor([7, 4], dtype=torch.int32)
    given = on_device(weight) if present else None
    actual = torch.batch_norm_backward_elemt(
        on_device(grad), on_device(x), *on_device([mean, invstd]), given, *on_device([*sums, counts])
    )
    mean_grad, mean_product = (beside(x, each) / 11 for each in sums)
    centred, deviation = x.double() - beside(x, mean), beside(x, invstd)
    expected = (grad.double() - mean_grad - centred * deviation**2 * mean_product) * deviation
    close(actual, expected * beside(x, weight) if present else expected, dtype)


@pytest.mark.parametrize("running", [True, False])
def test_update_stats(shape, dtype, layout, running):
    x = layout(numbers(*shape, dtype=dtype))
    # PyTorch's CPU keeps statistics of half types in them; CUDA, as the device, in float.
    before = [numbers(shape[1], dtype=statistics_dtype(dtype), seed=seed) for seed in (1, 2)]
    moved = on_device(before) if running else [None, None]
    mean, variance = torch.batch_norm_update_stats(on_device(x), *moved, MOMENTUM)
    rows = over_channels(x)
    close(mean, rows.mean(1), statistics_dtype(dtype))
    close(variance, rows.var(1, correction=0), statistics_dtype(dtype))
    if running:
        for now, then, batch in zip(moved, before, (rows.mean(1), rows.var(1)), strict=True):
            close(now, (1 - MOMENTUM) * then.double() + MOMENTUM * batch, statistics_dtype(dtype))
    if dtype in (torch.float32, torch.float64):
        expected = torch.batch_norm_update_stats(x, *(before if running else [None, None]), MOMENTUM)
        close(mean, expected[0].double(), dtype)
        close(variance, expected[1].double(), dtype)


def test_bad_use_is_refused():
    x, channels = torch.ones(2, 3, 4, device=DEVICE), torch.ones(3, device=DEVICE)
    with pytest.raises(RuntimeError, match=r"batch_norm_stats.*\[N, C, \.\.\.\].*\[4\]"):
        torch.batch_norm_stats(torch.ones(4, device=DEVICE), EPS)
    with pytest.raises(NotImplementedError, match=r"batch_norm_stats.*Long"):
        torch.batch_norm_stats(torch.ones(4, 3, device=DEVICE, dtype=torch.int64), EPS)
    with pytest.raises(RuntimeError, match=r"of_input.*3 elements.*\[2\]|of_input.*\[2\]"):
        torch.batch_norm_elemt(x, None, None, channels, channels[:2], EPS)
    with pytest.raises(RuntimeError, match="counts"):
        one = torch.ones(2, 3, device=DEVICE)
        torch.batch_norm_gather_stats_with_counts(x, one, one, None, None, MOMENTUM, EPS, channels)
    with pytest.raises(RuntimeError, match="at least one element"):
        torch.batch_norm_update_stats(x[:0], None, None, MOMENTUM)
