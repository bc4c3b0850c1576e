"""Interpolation, pads, pools of volumes, adaptive, fractional and un-pools against the CPU."""

import pytest
import torch
import torch.nn.functional as F
from compared import FLOATS, INTEGERS, check, check_error, numbers, on_device

SHAPES = {1: (2, 3, 7), 2: (2, 3, 5, 8), 3: (2, 1, 3, 4, 5)}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def layouts(x):
    turned = x.transpose(-1, 1).contiguous().transpose(-1, 1)
    stepped = torch.stack([x, x], -1)[..., 0]
    return [x, turned, stepped]


@pytest.mark.parametrize("dims", SHAPES)
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear"])
def test_interpolation(mode, dims):
    for x in layouts(numbers(*SHAPES[dims])):
        options = {"mode": LINEAR[dims] if mode == "linear" else mode}
        for target in ({"size": (11, 4, 5)[:dims]}, {"scale_factor": 1.7}, {"scale_factor": 0.6}, {"size": 1}):
            check(lambda x, t=target, o=options: F.interpolate(x, **t, **o), x, grad=True)
            if mode == "linear":
                check(lambda x, t=target, o=options: F.interpolate(x, align_corners=True, **t, **o), x, grad=True)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_smooth_interpolation(mode, antialias):
    for x in layouts(numbers(*SHAPES[2])):
        for target in ({"size": (3, 5)}, {"size": (13, 9)}, {"scale_factor": (0.5, 2.0)}):
            for corners in (False, True):
                check(
                    lambda x, t=target, c=corners: F.interpolate(
                        x, mode=mode, antialias=antialias, align_corners=c, **t
                    ),
                    x,
                    grad=True,
                    rtol=1e-4,
                    atol=1e-5,
                )


@pytest.mark.parametrize("dims", SHAPES)
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_pads(mode, dims):
    for x in layouts(numbers(*SHAPES[dims])):
        check(lambda x: F.pad(x, (2, 1, 1, 2, 2, 0)[: 2 * dims], mode=mode), x, grad=True)
        if mode == "replicate":
            check(lambda x: F.pad(x, (-1, 3) * dims, mode=mode), x, grad=True)


@pytest.mark.parametrize("dtype", FLOATS)
def test_dtypes(dtype):
    # The CPU adds what meets in one element in half precision.
    near = {"rtol": 2e-2, "atol": 2e-2} if dtype.itemsize == 2 else {}
    x = numbers(*SHAPES[2], dtype=dtype)
    check(lambda x: F.interpolate(x, (7, 6), mode="bilinear"), x, grad=True, **near)
    check(lambda x: F.interpolate(x, (7, 6)), x, grad=True, **near)
    check(lambda x: F.pad(x, (1, 1, 2, 2), mode="reflect"), x, grad=True, **near)
    check(lambda x: F.adaptive_max_pool2d(x, (2, 3)), x, grad=True, **near)
    if dtype.itemsize > 2:  # which the CPU's average of volumes lacks
        check(lambda x: F.avg_pool3d(x, 2), numbers(*SHAPES[3], dtype=dtype), grad=True)
    check(lambda x: F.max_pool3d(x, 2), numbers(*SHAPES[3], dtype=dtype), grad=True, **near)


VOLUMES = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": (3, 2, 1), "stride": (1, 2, 2), "padding": (1, 0, 0), "ceil_mode": True},
]


@pytest.mark.parametrize("geometry", VOLUMES)
def test_pools_of_volumes(geometry):
    for x in layouts(numbers(2, 3, 5, 6, 7)):
        check(lambda x: F.max_pool3d(x, return_indices=True, **geometry), x, grad=True)
        check(lambda x: F.avg_pool3d(x, **geometry), x, grad=True)
        check(lambda x: F.avg_pool3d(x, count_include_pad=False, **geometry), x, grad=True)
        check(lambda x: F.avg_pool3d(x, divisor_override=-3, **geometry), x, grad=True)
    check(lambda x: F.max_pool3d(x, 2, dilation=2), numbers(3, 5, 6, 7), grad=True)
    check(lambda x: F.lp_pool3d(x, 2, 2), numbers(1, 2, 4, 4, 4).abs(), grad=True)
    check(lambda x: F.local_response_norm(x, 3), numbers(2, 5, 4), grad=True)


@pytest.mark.parametrize("dims", SHAPES)
def test_adaptive_pools(dims):
    maximum, average = (getattr(F, f"adaptive_{kind}_pool{dims}d") for kind in ("max", "avg"))
    for x in layouts(numbers(*SHAPES[dims])):
        for size in (1, 2, (3, 2, 4)[:dims]):
            check(lambda x, s=size: maximum(x, s, return_indices=True), x, grad=True)
            check(lambda x, s=size: average(x, s), x, grad=True)


@pytest.mark.parametrize("dims", [2, 3])
def test_fractional_pools(dims):
    pool = getattr(F, f"fractional_max_pool{dims}d")
    for dtype in (torch.float32, torch.float64):
        samples = torch.rand(2, 3, dims, dtype=dtype)
        x = numbers(*(2, 3, 9, 8, 7)[: 2 + dims], dtype=dtype)
        for size in (2, (4, 3, 2)[:dims]):
            check(lambda x, u, s=size: pool(x, 2, s, return_indices=True, _random_samples=u), x, samples)
        check(lambda x, u=samples: pool(x, 2, 3, _random_samples=u.to(x.device)), x, grad=True)


@pytest.mark.parametrize("dims", SHAPES)
def test_unpools(dims):
    pool, unpool = (getattr(F, f"max_{kind}{dims}d") for kind in ("pool", "unpool"))
    x = numbers(*(2, 3, 8, 6, 4)[: 2 + dims])
    values, indices = pool(x, 2, return_indices=True)
    check(lambda v, i: unpool(v, i, 2), values, indices, grad=True)
    check_error(lambda v, i: unpool(v, i, 2), values, indices + 10_000)


def test_gradients_by_finite_differences():
    x = on_device(numbers(1, 2, 4, 5, dtype=torch.float64)).requires_grad_()
    for function in (
        lambda x: F.interpolate(x, (7, 3), mode="bicubic"),
        lambda x: F.interpolate(x, (3, 2), mode="bilinear", antialias=True),
        lambda x: F.pad(x, (2, 1, 1, 3), mode="reflect"),
        lambda x: F.adaptive_max_pool2d(x, (3, 2)),
        lambda x: F.avg_pool3d(x, 2, 1, 1, count_include_pad=False),
    ):
        assert torch.autograd.gradcheck(function, x)


def test_nan_empty_and_out():
    x = numbers(1, 2, 6, 6)
    x[0, 0, 1, 1], x[0, 1, 3, 3] = torch.nan, torch.inf
    check(lambda x: F.interpolate(x, (12, 3)), x)
    check(lambda x: F.adaptive_max_pool2d(x, 3, return_indices=True), x)
    check(lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), x)
    check(lambda x: F.pad(x, (1, 1), mode="replicate"), numbers(0, 3, 4))
    check(lambda x: F.max_pool3d(x, 2), numbers(0, 3, 4, 4, 4))
    near = on_device(x)
    out = torch.empty(0, device="rustorch")
    torch._C._nn.upsample_nearest2d(near, (3, 3), out=out)
    assert torch.equal(out.isnan().cpu(), F.interpolate(x, (3, 3)).isnan())


def test_errors():
    check_error(lambda x: F.pad(x, (9, 1), mode="reflect"), numbers(1, 2, 4))
    check_error(lambda x: F.interpolate(x, (0, 3)), numbers(1, 2, 4, 4))
    check_error(lambda x: F.avg_pool3d(x, 9), numbers(1, 2, 4, 4, 4))
    check_error(lambda x: F.max_pool3d(x, 2, padding=2), numbers(1, 2, 4, 4, 4))
    check_error(lambda x: F.adaptive_max_pool2d(x, (2, 2)), numbers(1, 0, 4))


@pytest.mark.parametrize("dims", SHAPES)
def test_the_nearest_by_a_scale_that_is_not_of_the_sizes(dims):
    """In two dimensions the CPU goes by the sizes where they are equal or one is twice the other. In one and three its
    gradients do so and its values do not: here the gradients are those of the values.
    """
    for scale in (2.2, 2.05, 1.15, 1.1, 1.7, 0.93):
        for x in (*layouts(numbers(*SHAPES[dims])), *layouts(bytes_of(*SHAPES[dims]))):
            for mode in ("nearest", "nearest-exact"):
                options = {"mode": mode, "scale_factor": scale}
                check(lambda x, o=options: F.interpolate(x, **o), x, grad=dims == 2 and x.is_floating_point())
        x = on_device(numbers(*SHAPES[dims], dtype=torch.float64)).requires_grad_()
        assert torch.autograd.gradcheck(lambda x, s=scale: F.interpolate(x, scale_factor=s), x)


BYTES = {"rtol": 0, "atol": 0}


def bytes_of(*size):
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dims", SHAPES)
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_the_nearest_bytes(mode, dims):
    for shape in (SHAPES[dims], (1, 5, 64, 63, 3)[: dims + 2], (0, 3, 4, 4, 4)[: dims + 2]):
        for x in layouts(bytes_of(*shape)):
            for target in ({"size": (11, 4, 5)[:dims]}, {"scale_factor": 1.7}, {"scale_factor": 0.6}, {"size": 1},
                           {"scale_factor": 2.3, "recompute_scale_factor": True}):  # fmt: skip
                check(lambda x, t=target: F.interpolate(x, mode=mode, **t), x, **BYTES)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "lanczos"])
def test_weighed_bytes(mode, antialias):
    """To the bit: weights of PyTorch's number of bits, rounded after each dimension."""
    if mode == "lanczos" and not antialias:
        return check_error(lambda x: F.interpolate(x, (3, 3), mode=mode), bytes_of(1, 3, 5, 5))
    for channels in (1, 3, 4, 5):
        for x in layouts(bytes_of(2, channels, 17, 13)):
            for target in ({"size": (9, 30)}, {"size": (31, 7)}, {"size": (17, 5)}, {"size": (4, 13)}, {"size": (1, 9)},
                           {"size": (17, 13)}, {"scale_factor": 0.37}, {"scale_factor": (2.0, 1.3)}):  # fmt: skip
                for corners in (False, True) if not antialias else (False,):
                    options = {"mode": mode, "antialias": antialias, "align_corners": corners or None, **target}
                    check(lambda x, o=options: F.interpolate(x, **o), x, **BYTES)
    # To one pixel, where the CPU asserts: of many channels it does not.
    single, many = bytes_of(2, 3, 9, 9), bytes_of(2, 3, 9, 9).repeat(1, 2, 1, 1)
    expected = F.interpolate(many, 1, mode=mode, antialias=antialias)[:, :3]
    assert torch.equal(F.interpolate(on_device(single), 1, mode=mode, antialias=antialias).cpu(), expected)
    x = bytes_of(2, 3, 9, 9).to(memory_format=torch.channels_last)
    check(lambda x: F.interpolate(x, (5, 20), mode=mode, antialias=antialias), x, **BYTES)
    out = torch.empty(0, dtype=torch.uint8, device="rustorch")
    torch._C._nn.upsample_bilinear2d(on_device(x), (5, 20), False, out=out)
    assert torch.equal(out.cpu(), F.interpolate(x, (5, 20), mode="bilinear"))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_pads_of_integers(dtype):
    for dims, shape in SHAPES.items():
        for x in layouts(numbers(*shape, dtype=dtype)):
            for mode in ("reflect", "replicate"):
                check(lambda x, m=mode, d=dims: F.pad(x, (2, 1, 1, 2, 2, 0)[: 2 * d], mode=m), x, **BYTES)
