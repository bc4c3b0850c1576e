"""Numbers that are none, infinities and missing tensors: the CPU's answer or a refusal, forward and backward."""

import math

import pytest
import torch
from torch.nn import functional as F

INFINITE = (math.nan, math.inf, -math.inf)


def ones(device, *shape, dtype=torch.float32):
    return torch.ones(*shape, device=device, dtype=dtype)


def test_what_is_missing_in_a_backward_is_refused():
    x = ones("rustorch", 1, 4, 2)
    statistics = ones("rustorch", 1, 2)
    every = [True] * 3
    # Without inference mode, autograd refuses them before they reach a kernel.
    with torch.inference_mode():
        with pytest.raises(RuntimeError, match="expected the mean"):
            torch.ops.aten.native_group_norm_backward(x, x, None, statistics, None, 1, 4, 2, 2, every)
        with pytest.raises(RuntimeError, match="expected the mean"):
            torch.ops.aten.native_layer_norm_backward(x, x, [2], None, None, None, None, every)
    scores, target = ones("rustorch", 1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long, device="rustorch")
    for total in (ones("rustorch", 0), ones("rustorch", 2)):
        with pytest.raises(RuntimeError, match="one element"):
            torch.ops.aten.nll_loss2d_backward(ones("rustorch", ()), scores, target, None, 1, -100, total)


def test_segments_without_lengths_are_refused():
    x = ones("rustorch", 4)
    with pytest.raises(RuntimeError, match="Either lengths or offsets"):
        torch.segment_reduce(x, "mean")
    with pytest.raises(RuntimeError, match="Either lengths or offsets"):
        torch.ops.aten._segment_reduce_backward(x, x, x, "mean")


def test_segments_whose_last_dimension_is_not_the_axis_are_refused_as_on_the_cpu():
    for device in ("cpu", "rustorch"):
        x, number = ones(device, 4), ones(device, ())
        one, pair = torch.tensor(1, device=device), torch.tensor([0, 1], device=device)
        with pytest.raises(RuntimeError, match="the last dimension of offsets but got 0"):
            torch.segment_reduce(x, "sum", offsets=one)
        with pytest.raises(RuntimeError, match="the last dimension of lengths but got 0"):
            torch.segment_reduce(x, "sum", lengths=one)
        with pytest.raises(RuntimeError, match="the last dimension of lengths but got 1"):
            torch.segment_reduce(x.view(2, 2), "sum", lengths=pair, axis=-1)
        # A number has no axis that a list of segments could lie along.
        with pytest.raises(RuntimeError, match=r"[Ee]xpected data"):
            torch.segment_reduce(number, "sum", offsets=pair)
    with pytest.raises(RuntimeError, match="at least as many dimensions"):
        torch.ops.aten._segment_reduce_backward(number, number, number, "sum", offsets=pair)


def assert_close(actual, expected):
    torch.testing.assert_close(actual.detach().cpu(), expected.detach(), rtol=1e-5, atol=1e-5, equal_nan=True)


# PyTorch has no bicubic samples of volumes.
SAMPLED = [(2, "bilinear"), (2, "nearest"), (2, "bicubic"), (3, "bilinear"), (3, "nearest")]


def sampled(device, dims, mode, padding, corners, dtype):
    """Samples at places of which some numbers are none, and their gradients."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 2, *[5] * dims, generator=generator, dtype=dtype).to(device).requires_grad_()
    places = [[value if at == dim else 0.3 for at in range(dims)] for value in INFINITE for dim in range(dims)]
    grid = torch.tensor([[math.nan] * dims, [math.inf] * dims, *places], dtype=dtype)
    grid = grid.view(1, *[1] * (dims - 1), -1, dims).to(device).requires_grad_()
    result = F.grid_sample(image, grid, mode, padding, corners)
    seed = torch.randn(result.shape, generator=generator, dtype=dtype).to(device)
    return result, (lambda: torch.autograd.grad(result, (image, grid), seed))


@pytest.mark.parametrize(("dims", "mode"), SAMPLED)
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_sampling_at_what_is_no_position(dims, mode, padding, corners, dtype):
    expected, theirs = sampled("cpu", dims, mode, padding, corners, dtype)
    actual, mine = sampled("rustorch", dims, mode, padding, corners, dtype)
    assert_close(actual, expected)
    if (dims, mode) == (2, "bilinear") and padding != "zeros":
        return  # PyTorch's CPU kernel reads and writes beyond the image here, and dies: see the next test.
    for found, wanted in zip(mine(), theirs(), strict=True):
        assert_close(found, wanted)


@pytest.mark.parametrize("padding", ["border", "reflection"])
@pytest.mark.parametrize("corners", [False, True])
def test_gradients_of_images_where_the_cpu_dies(padding, corners):
    """A place that is nowhere is the first pixel, forward; so the gradient is that of samples at its middle."""
    first = -1.0 if corners else -0.8
    lost = [math.nan, math.inf, -math.inf] if padding == "reflection" else [math.nan]
    results = []
    for values in (lost, [first] * len(lost)):
        image = torch.linspace(-1, 1, 50).view(1, 2, 5, 5).to("rustorch").requires_grad_()
        places = [place for value in values for place in ([value, 0.3], [0.3, value], [value, value])]
        grid = torch.tensor(places).view(1, 1, -1, 2).to("rustorch").requires_grad_()
        result = F.grid_sample(image, grid, "bilinear", padding, corners)
        seed = torch.linspace(1, 2, result.numel()).view(result.shape).to("rustorch")
        results.append((result, *torch.autograd.grad(result, (image, grid), seed)))
    (result, grad_image, grad_grid), (wanted, wanted_image, wanted_grid) = results
    # It does not move with a number that is none, and with the other one as from the first pixel.
    moves = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]]).repeat(1, len(lost), 1)
    assert_close(result, wanted.cpu())
    assert_close(grad_image, wanted_image.cpu())
    assert_close(grad_grid, (wanted_grid.cpu() * moves))


ROWS = torch.tensor(
    [[0.0, 1, math.inf], [math.inf, 1, 2], [-math.inf, 1, 2], [math.nan, 0, 0], [3, 4, 0], [3, 4, 0], [1, 2, 5]]
)


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("width", [3, 21, 33])
def test_distances_of_infinities(p, dtype, width):
    results = []
    rows = ROWS.repeat(1, width // 3)
    for device in ("cpu", "rustorch"):
        a = rows.to(device, dtype, copy=True).requires_grad_()
        b = rows.flip(0).to(device, dtype).requires_grad_()
        distances, pairs = torch.cdist(a, b, p), F.pdist(a, p)
        results.append((distances, pairs, *torch.autograd.grad(distances.sum() + pairs.sum(), (a, b))))
    for expected, actual in zip(*results, strict=True):
        assert_close(actual, expected)


SCORES = torch.tensor([[math.nan, 1, 2], [1, math.nan, math.inf], [0, -math.inf, 3], [1, 2, 3], [math.inf, 0, 1]])
CLASSES = torch.tensor([0, 1, 2, 1, 0])
LISTS = torch.tensor([[0, 2, -1], [1, -1, 0], [2, 0, 1], [-1, 0, 0], [0, 1, 2]])
MARGINS = {
    "one class": lambda x, r: F.multi_margin_loss(x, CLASSES.to(x.device), reduction=r),
    "one class, squared": lambda x, r: F.multi_margin_loss(x, CLASSES.to(x.device), p=2, margin=0.5, reduction=r),
    "many classes": lambda x, r: F.multilabel_margin_loss(x, LISTS.to(x.device), reduction=r),
}


@pytest.mark.parametrize("loss", MARGINS.values(), ids=MARGINS)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_margins_of_what_is_no_number(loss, reduction):
    results = []
    for device in ("cpu", "rustorch"):
        scores = SCORES.to(device, copy=True).requires_grad_()
        value = loss(scores, reduction)
        results.append((value, *torch.autograd.grad(value.sum(), scores)))
    for expected, actual in zip(*results, strict=True):
        assert_close(actual, expected)
