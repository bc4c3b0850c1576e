"""Grids, patches, bags of embeddings, distances, gates and shuffles against the CPU."""

import pytest
import torch
import torch.nn.functional as F
from compared import FLOATS, check, check_error, numbers, on_device


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample(mode, padding, dims):
    x = numbers(2, 3, *(5, 6, 4)[:dims])
    grid = numbers(2, *(4, 3, 2)[:dims], dims, seed=1)
    for corners in (False, True):
        for given in (x, x.transpose(1, -1).contiguous().transpose(1, -1)):
            check(
                lambda x, g, c=corners: F.grid_sample(x, g, mode=mode, padding_mode=padding, align_corners=c),
                *(given, grid),
                grad=True,
                rtol=1e-4,
                atol=1e-4,
            )


def test_grids_by_finite_differences():
    x = on_device(numbers(1, 2, 4, 5, dtype=torch.float64)).requires_grad_()
    grid = on_device(numbers(1, 3, 2, 2, dtype=torch.float64, seed=1) * 0.7).requires_grad_()
    for mode in ("bilinear", "bicubic"):
        assert torch.autograd.gradcheck(
            lambda x, g, m=mode: F.grid_sample(x, g, mode=m, align_corners=False), (x, grid)
        )
    check_error(lambda x, g: F.grid_sample(x, g, align_corners=False), numbers(1, 2, 3, 3), numbers(2, 3, 3, 2))


def test_affine_grid():
    check(lambda t: F.affine_grid(t, [2, 1, 3, 4], align_corners=False), numbers(2, 2, 3), grad=True)


PATCHES = [{"kernel_size": 2}, {"kernel_size": (3, 2), "dilation": (1, 2), "padding": (2, 1), "stride": (2, 1)}]


@pytest.mark.parametrize("geometry", PATCHES)
def test_patches(geometry):
    for x in (numbers(2, 3, 6, 7), numbers(3, 6, 7), numbers(2, 7, 6, 3).permute(0, 3, 2, 1)):
        check(lambda x: F.unfold(x, **geometry), x, grad=True)
        columns = F.unfold(x, **geometry)
        check(lambda c, s=tuple(x.shape[-2:]): F.fold(c, s, **geometry), columns, grad=True)
    check_error(lambda x: F.unfold(x, 9), numbers(1, 2, 4, 4))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bags(dtype, mode):
    table = numbers(7, 5, dtype=dtype)
    tokens = torch.tensor([1, 6, 6, 0, 3, 2, 1, 1, 5])
    for offsets in ([0, 3, 3, 7], [0, 4, 4, 9], [0]):
        for integer in (torch.int64, torch.int32):
            given = (torch.tensor(offsets).to(integer), tokens.to(integer))
            # PyTorch's CPU crashes where the last offset is not the end.
            last = [{"include_last_offset": True}] if offsets[-1] == len(tokens) else []
            for options in ({}, {"padding_idx": 1}, *last):
                check(lambda w, o, t, p=options: F.embedding_bag(t, w, o, mode=mode, **p), table, *given, grad=True)
    check(lambda w, t: F.embedding_bag(t, w, mode=mode), table, tokens.view(3, 3), grad=True)
    check_error(lambda w, t: F.embedding_bag(t, w, torch.tensor([0], device=w.device)), table, tokens + 1)


def test_weighted_bags_and_norms():
    table, tokens, weights = numbers(7, 5), torch.tensor([1, 6, 6, 0, 3]), numbers(5, seed=2)
    offsets = torch.tensor([0, 2])
    check(
        lambda w, s, t, o: F.embedding_bag(t, w, o, mode="sum", per_sample_weights=s), table, weights, tokens, offsets,
        grad=True,
    )  # fmt: skip
    check(
        lambda w, t, o: F.embedding_bag(t, w, o, scale_grad_by_freq=True, mode="sum"), table, tokens, offsets, grad=True
    )
    for power in (1.0, 2.0, 3.0, float("inf")):
        near, here = on_device(table), table.clone()
        F.embedding(tokens, here, max_norm=1.5, norm_type=power)
        F.embedding(tokens.to("rustorch"), near, max_norm=1.5, norm_type=power)
        torch.testing.assert_close(near.cpu(), here)


@pytest.mark.parametrize("p", [0.0, 0.7, 1.0, 2.0, 3.5, float("inf")])
def test_distances(p):
    for a, b in [((4, 3), (5, 3)), ((2, 4, 19), (2, 1, 19)), ((3, 1, 4, 17), (2, 5, 17)), ((2, 0, 3), (2, 4, 3))]:
        check(lambda a, b: torch.cdist(a, b, p=p), numbers(*a), numbers(*b, seed=1), grad=True, rtol=1e-3, atol=1e-4)
    check(lambda a: F.pdist(a, p), numbers(6, 5), grad=True, rtol=1e-3, atol=1e-4)
    check(lambda a: F.pdist(a.t(), p), numbers(5, 6), rtol=1e-4, atol=1e-5)
    check(lambda a: F.pdist(a, p), numbers(1, 5))


def test_distances_by_finite_differences():
    a, b = (on_device(numbers(n, 5, dtype=torch.float64, seed=n)).requires_grad_() for n in (3, 4))
    for p in (1.0, 2.0, 2.5):
        assert torch.autograd.gradcheck(lambda a, b, p=p: torch.cdist(a, b, p=p), (a, b))
        assert torch.autograd.gradcheck(lambda a, p=p: F.pdist(a, p), (a,))


@pytest.mark.parametrize("dtype", FLOATS)
def test_gates(dtype):
    near = {"rtol": 2e-2, "atol": 2e-2} if dtype.itemsize == 2 else {}
    x = numbers(3, 6, 4, dtype=dtype)
    for dim in (0, 1, -1):
        check(lambda x, d=dim: F.glu(x, d), numbers(4, 6, 8, dtype=dtype), grad=True, **near)
    check(lambda x: F.glu(x.transpose(0, 2), 0), x, grad=True, **near)
    check(F.prelu, x, numbers(6, dtype=dtype, seed=1), grad=True, **near)
    check(F.prelu, x, numbers(1, dtype=dtype, seed=1), grad=True, **near)
    check(lambda x: F.rrelu(x, 0.1, 0.3), x, grad=True, **near)


def test_random_slopes_lie_in_their_range_and_are_the_gradient():
    x = on_device(numbers(40, 50)).requires_grad_()
    out = F.rrelu(x, 0.1, 0.3, training=True)
    out.sum().backward()
    slopes = (out.detach() / x.detach()).cpu()
    assert torch.equal(slopes[x.detach().cpu() > 0], torch.ones_like(slopes[x.detach().cpu() > 0]))
    low = slopes[x.detach().cpu() < 0]
    assert low.min() > 0.0999 and low.max() < 0.3001 and abs(low.mean() - 0.2) < 0.01
    torch.testing.assert_close(x.grad.cpu(), slopes)


def test_shuffles():
    for x in (numbers(2, 8, 3, 5), numbers(2, 5, 3, 8).transpose(1, 3)):
        check(lambda x: F.pixel_shuffle(x, 2), x, grad=True)
        check(lambda x: F.channel_shuffle(x, 4), x, grad=True)
        check(lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2), x, grad=True)
    check(lambda x: F.pixel_unshuffle(x, 3), numbers(2, 3, 6, 9), grad=True)
    check(lambda x: F.pixel_shuffle(x, 1), numbers(3, 2, 2))
    check_error(lambda x: F.pixel_shuffle(x, 3), numbers(1, 8, 2, 2))
    check_error(lambda x: F.channel_shuffle(x, 3), numbers(1, 8, 2, 2))


@pytest.mark.usefixtures("fresh_dynamo")
def test_bicubic_volumes_are_compiled():
    """PyTorch's shape functions know them of its own devices alone."""
    volume, grid = numbers(1, 2, 4, 4, 4), numbers(1, 3, 3, 3, 3)

    def gradients(device, compiler):
        leaves = [tensor.to(device).requires_grad_() for tensor in (volume, grid)]
        result = compiler(lambda x, g: F.grid_sample(x, g, mode="bicubic", align_corners=False) * 2)(*leaves)
        return [result, *torch.autograd.grad(result.square().sum(), leaves)]

    compiled = gradients("rustorch", lambda function: torch.compile(function, backend="rust_backend"))
    for mine, theirs in zip(compiled, gradients("cpu", lambda function: function), strict=True):
        torch.testing.assert_close(mine.cpu(), theirs, rtol=1e-4, atol=1e-4)
