"""torchvision's own ops against its kernels for the CPU: to the bit, where no product of matrices is in them."""

import copy
import subprocess
import sys

import pytest
import torch
import torchvision
from compared import DEVICE, check, check_error, numbers, on_device
from torchvision import ops

RAW = torch.ops.torchvision
EXACT = {"rtol": 0.0, "atol": 0.0}
DTYPES = [torch.float32, torch.float64, torch.float16]


def boxes(count, side=20.0, dtype=torch.float32, seed=0):
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * side
    return torch.cat([corners.amin(1), corners.amax(1)], 1).to(dtype)


def rois(count, batch, dtype=torch.float32, side=20.0, seed=0):
    """Of images in turn; some lie partly or wholly outside, are empty or turned round."""
    some = boxes(count, side, torch.float64, seed)
    for at, odd in enumerate(
        ([-30, -30, -20, -20], [15, 15, 60, 40], [-3, 2, 4, 9], [5, 5, 5, 5], [9, 8, 2, 3], [2, 3, 2.4, 9], [1e4] * 4)
    ):
        some[at] = torch.tensor(odd, dtype=torch.float64)
    return torch.cat([torch.arange(count)[:, None] % batch, some], 1).to(dtype)


# Which boxes to keep.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 2, 37, 500, 5000])
def test_nms(dtype, count):
    for threshold in (0.0, 0.3, 0.7, 1.0, -1.0):
        check(RAW.nms, boxes(count, dtype=dtype), torch.rand(count).to(dtype), threshold)


def test_nms_of_equal_and_missing_scores():
    many = boxes(60, 8.0)
    scores = torch.randint(0, 4, (60,)).float()
    check(RAW.nms, many, scores, 0.2)
    scores[torch.arange(0, 60, 7)] = torch.nan
    scores[3], scores[4] = torch.inf, -torch.inf
    check(RAW.nms, many, scores, 0.2)
    many[torch.arange(0, 60, 5), 2] = torch.nan
    many[11] = torch.tensor([torch.nan, 0, torch.inf, 1])
    many[13] = torch.tensor([0, -torch.inf, torch.inf, torch.inf])
    check(RAW.nms, many, scores, 0.2)
    # The overlap is a number of the boxes' dtype, the threshold one of f64: a third in f32 is above the one in f64.
    pair = torch.tensor([[0, 0, 2, 1], [1, 0, 3, 1]])
    for dtype in (torch.float32, torch.float64):
        for threshold in (1 / 3, float(torch.tensor(1 / 3))):
            check(RAW.nms, pair.to(dtype), torch.ones(2, dtype=dtype), threshold)


def test_nms_of_other_layouts_and_none():
    many, scores = boxes(40), torch.rand(40, 3)
    check(RAW.nms, many.T.contiguous().T, scores[:, 1], 0.3)
    check(RAW.nms, many[:0], scores[:0, 0], 0.3)
    check(RAW.nms, torch.zeros(5, 4), torch.rand(5), 0.3)
    check(lambda b, s, i: ops.batched_nms(b, s, i, 0.3), many, scores[:, 0], torch.arange(40) % 3)


@pytest.mark.parametrize(
    ("many", "scores"),
    [
        (torch.rand(3), torch.rand(3)),
        (torch.rand(3, 5), torch.rand(3)),
        (torch.rand(3, 4), torch.rand(3, 1)),
        (torch.rand(3, 4), torch.rand(2)),
        (torch.rand(3, 4), torch.rand(3).double()),
        (torch.rand(3, 4).half(), torch.rand(3).half()),
        (torch.ones(3, 4).int(), torch.ones(3).int()),
    ],
)
def test_nms_refuses(many, scores):
    check_error(RAW.nms, many, scores, 0.5)


# Regions.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [0, -1, 2, 3])
@pytest.mark.parametrize("bins", [(7, 7), (3, 5), (1, 1)])
def test_roi_align(dtype, aligned, ratio, bins):
    some = rois(11, 2, dtype)
    if ratio <= 0 and aligned:
        # Of a region turned round both ways the CPU asks for a negative number of samples, and ends.
        some = some[(some[:, 3] >= some[:, 1]) & (some[:, 4] >= some[:, 2])]
    for scale in (1.0, 0.37):
        x = numbers(2, 3, 17, 13, dtype=dtype)
        check(lambda x, r, s: RAW.roi_align(x, r, s, *bins, ratio, aligned), x, some, scale, **EXACT)


@pytest.mark.parametrize("dtype", DTYPES)
def test_roi_align_backward(dtype):
    some = rois(11, 2, dtype)[torch.arange(11) != 4]
    for aligned, ratio, size in ((True, 2, (17, 13)), (False, 0, (17, 13)), (True, -1, (1, 40))):
        grad = numbers(10, 5, 3, 4, dtype=dtype)
        for given in (grad, grad.transpose(2, 3).contiguous().transpose(2, 3), grad[:1].expand(10, -1, -1, -1)):
            rest = (0.5, 3, 4, 2, 5, *size, ratio, aligned)
            check(RAW._roi_align_backward, given, some, *rest, **EXACT)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bins", [(7, 7), (3, 5), (1, 1)])
def test_roi_pool(dtype, bins):
    some = rois(11, 2, dtype)
    for scale in (1.0, 0.37):
        check(RAW.roi_pool, numbers(2, 3, 17, 13, dtype=dtype), some, scale, *bins, **EXACT)
    odd = numbers(2, 3, 17, 13, dtype=dtype)
    odd[0, 0, ::2] = torch.nan
    odd[1, :, 3] = -torch.inf
    check(RAW.roi_pool, odd, some, 1.0, *bins, **EXACT)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bins", [(2, 3), (1, 1)])
@pytest.mark.parametrize("ratio", [0, 2, None])
def test_position_sensitive(dtype, bins, ratio):
    """With a ratio samples are averaged, without one pixels."""
    channels, some = 4 * bins[0] * bins[1], rois(11, 2, dtype)
    name, extra = ("ps_roi_pool", ()) if ratio is None else ("ps_roi_align", (ratio,))
    function, backward = getattr(RAW, name), getattr(RAW, f"_{name}_backward")
    x = numbers(2, channels, 17, 13, dtype=dtype)
    for scale in (1.0, 0.37):
        check(function, x, some, scale, *bins, *extra, **EXACT)
        out, mapping = function(x, some, scale, *bins, *extra)
        grad = numbers(*out.shape, dtype=dtype)
        check(backward, grad, some, mapping, scale, *bins, *extra, *x.shape, **EXACT)


@pytest.mark.parametrize(
    "pool",
    [
        lambda x, r: ops.roi_align(x, r, (3, 2), 0.5, 2, aligned=True),
        lambda x, r: ops.roi_align(x, r, (3, 2), 1.0, 0),
        lambda x, r: ops.roi_pool(x, r, (3, 2), 0.5),
        lambda x, r: ops.ps_roi_align(x, r, (3, 2), 0.5, 2),
        lambda x, r: ops.ps_roi_pool(x, r, (3, 2), 0.5),
    ],
    ids=["align", "align_adaptive", "pool", "ps_align", "ps_pool"],
)
def test_regions_of_all_kinds_of_tensors(pool):
    some = rois(9, 2)
    x = numbers(2, 12, 17, 13)
    expected = pool(x, some)
    seed = numbers(*expected.shape, seed=1)
    layouts = (
        x,
        x.to(memory_format=torch.channels_last),
        x.transpose(2, 3).contiguous().transpose(2, 3),
        torch.stack([x, x], 4)[..., 1],
    )
    for layout in layouts:
        for given in (some, some.T.contiguous().T):
            mine, theirs = on_device(layout).requires_grad_(), layout.detach().requires_grad_()
            actual, wanted = pool(mine, on_device(given)), pool(theirs, given)
            torch.testing.assert_close(actual.cpu(), wanted, **EXACT)
            actual.backward(on_device(seed))
            wanted.backward(seed)
            torch.testing.assert_close(mine.grad.cpu(), theirs.grad, **EXACT)
    # Without regions, images or channels.
    check(pool, x, some[:0], grad=False, **EXACT)
    check(pool, x[:0], some[:0], grad=False, **EXACT)
    check(pool, x[:, :0], some, grad=False, **EXACT)


RAW_POOLS = {
    "roi_align": (2, True),
    "roi_pool": (),
    "ps_roi_align": (2,),
    "ps_roi_pool": (),
}


@pytest.mark.parametrize("name", RAW_POOLS)
def test_regions_refuse(name):
    function = getattr(RAW, name)
    extra = RAW_POOLS[name]
    x, some = numbers(2, 4, 9, 9), rois(9, 2)
    for r, height in ((some[:, :4], 2), (some[0], 2), (some.double(), 2), (some, -1)):
        check_error(lambda x, r, height=height: function(x, r, 1.0, height, 2, *extra), x, r)
    check_error(lambda x, r: function(x, r, 1.0, 2, 2, *extra), x[0], some)
    check_error(lambda x, r: function(x, r, 1.0, 2, 2, *extra), x.int(), some.int())
    check_error(lambda x, r: function(x, r, 1.0, 2, 2, *extra), x.bfloat16(), some.bfloat16())
    if name.startswith("ps"):
        check_error(lambda x, r: function(x, r, 1.0, 3, 2, *extra), x, some)
        # Here the CPU divides by zero, and ends.
        with pytest.raises(RuntimeError):
            function(on_device(x), on_device(some), 1.0, 0, 2, *extra)
    else:
        check(lambda x, r: function(x, r, 1.0, 0, 2, *extra), x, some, **EXACT)


@pytest.mark.parametrize("name", RAW_POOLS)
@pytest.mark.parametrize("image", [2.0, -1.0, 1e30, float("nan")])
def test_an_image_that_there_is_not(name, image):
    """The CPU reads what lies there in memory."""
    some = rois(9, 2)
    some[5, 0] = image
    x = on_device(numbers(2, 4, 9, 9))
    with pytest.raises(IndexError, match="out of bounds"):
        getattr(RAW, name)(x, on_device(some), 1.0, 2, 2, *RAW_POOLS[name])


def test_gradients_of_places_that_there_are_not():
    some = on_device(rois(9, 2))
    grad = on_device(numbers(9, 4, 2, 2))
    for place in (81, -2):
        argmax = torch.full((9, 4, 2, 2), place, dtype=torch.int32, device=DEVICE)
        with pytest.raises(IndexError):
            RAW._roi_pool_backward(grad, some, argmax, 1.0, 2, 2, 2, 4, 9, 9)
    for channel in (16, -1):
        mapping = torch.full((9, 4, 2, 2), channel, dtype=torch.int32, device=DEVICE)
        with pytest.raises(IndexError):
            RAW._ps_roi_pool_backward(grad, some, mapping, 1.0, 2, 2, 2, 16, 9, 9)
        with pytest.raises(IndexError):
            RAW._ps_roi_align_backward(grad, some, mapping, 1.0, 2, 2, 2, 2, 16, 9, 9)


def test_regions_do_not_depend_on_the_number_of_threads():
    x, some = on_device(numbers(2, 12, 40, 40)), on_device(rois(200, 2, side=40.0))
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            kept = RAW.nms(some[:, 1:], torch.linspace(0, 1, 200, device=DEVICE), 0.1)
            out = RAW.roi_align(x, some, 1.0, 7, 7, 0, False)
            grad = RAW._roi_align_backward(out, some, 1.0, 7, 7, *x.shape, 0, False)
            results.append([kept.cpu(), out.cpu(), grad.cpu()])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_autocast_is_in_f32():
    """As on the CPU: nms and roi_align."""
    x, some = numbers(1, 2, 9, 9).bfloat16(), rois(9, 1)
    results = []
    for device in ("cpu", DEVICE):
        with torch.autocast(device):
            a = RAW.roi_align(x.to(device), some.to(device), 1.0, 2, 2, 2, True)
            b = RAW.nms(some[:, 1:].to(device).bfloat16(), torch.arange(9, device=device).bfloat16(), 0.1)
        results.append((a.cpu(), b.cpu()))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, **EXACT)


# Deformable convolutions.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(
    ("groups", "offset_groups", "stride", "padding", "dilation"),
    [(1, 1, 1, 0, 1), (2, 3, 1, 1, 1), (3, 2, (2, 1), (1, 2), (1, 2)), (6, 6, 2, 3, 2), (1, 6, 1, (0, 1), 1)],
)
def test_deform_conv2d(dtype, masked, groups, offset_groups, stride, padding, dilation):
    x, weight = numbers(3, 6, 9, 8, dtype=dtype), numbers(12, 6 // groups, 3, 2, dtype=dtype, seed=1)
    out = torch.nn.functional.conv2d(x, weight, None, stride, padding, dilation, groups)
    offset = 2 * numbers(3, 2 * offset_groups * 6, *out.shape[2:], dtype=dtype, seed=2)
    mask = numbers(3, offset_groups * 6, *out.shape[2:], dtype=dtype, seed=3) if masked else None
    bias = numbers(12, dtype=dtype, seed=4)

    def convolve(x, offset, weight, bias, mask):
        return ops.deform_conv2d(x, offset, weight, bias, stride, padding, dilation, mask)

    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-10}
    check(convolve, x, offset, weight, bias, mask, grad=True, **tolerance)
    check(convolve, x, torch.zeros_like(offset), weight, bias, mask, grad=True, **tolerance)
    check(convolve, x, offset.round(), weight, None, mask, grad=True, **tolerance)
    check(convolve, x.transpose(2, 3).contiguous().transpose(2, 3), offset.to(memory_format=torch.channels_last),
          weight.transpose(0, 1).contiguous().transpose(0, 1), bias, mask, grad=True, **tolerance)  # fmt: skip
    check(convolve, x[:0], offset[:0], weight, bias, None if mask is None else mask[:0], grad=True, **tolerance)


def test_deform_conv2d_of_f16():
    x, weight = numbers(2, 4, 9, 8, dtype=torch.float16), numbers(3, 4, 3, 3, dtype=torch.float16, seed=1)
    offset, mask = numbers(2, 18, 7, 6, dtype=torch.float16, seed=2), numbers(2, 9, 7, 6, dtype=torch.float16, seed=3)
    check(
        lambda x, o, w, m: ops.deform_conv2d(x, o, w, mask=m), x, offset, weight, mask, grad=True, rtol=0.02, atol=0.1
    )


def test_deform_conv2d_far_outside():
    """Nothing is read there; the CPU reads memory of others where an offset is NaN."""
    x, weight, offset = numbers(1, 2, 5, 5), numbers(2, 2, 3, 3), torch.full((1, 18, 3, 3), 1e4)
    check(lambda x, o, w: ops.deform_conv2d(x, o, w), x, offset, weight, grad=True)
    for odd in (torch.nan, torch.inf, -1e38):
        out = ops.deform_conv2d(on_device(x), torch.full_like(offset, odd).to(DEVICE), on_device(weight))
        assert torch.equal(out.cpu(), torch.zeros(1, 2, 3, 3))


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.update(input=a["input"][0]),
        lambda a: a.update(offset=a["offset"][:, :17]),
        lambda a: a.update(offset=a["offset"][:1]),
        lambda a: a.update(offset=a["offset"][..., 1:]),
        lambda a: a.update(mask=a["mask"][:, 1:]),
        lambda a: a.update(mask=a["mask"][:1]),
        lambda a: a.update(mask=a["mask"][..., 1:]),
        lambda a: a.update(weight=a["weight"].double()),
        lambda a: a.update(weight=a["weight"][:, :3]),
        lambda a: a.update(stride=-1),
        lambda a: a.update(padding=-1),
        lambda a: a.update(dilation=0),
        lambda a: a.update(dilation=9),
        lambda a: a.update(groups=3),
        lambda a: a.update(offset_groups=2),
        lambda a: a.update({key: value.int() for key, value in a.items() if isinstance(value, torch.Tensor)}),
    ],
)
def test_deform_conv2d_refuses(change):
    given = {
        "input": numbers(2, 4, 9, 8),
        "weight": numbers(3, 4, 3, 3),
        "offset": numbers(2, 18, 7, 6),
        "mask": numbers(2, 9, 7, 6),
        "bias": numbers(3),
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
        "offset_groups": 1,
    }
    change(given)
    *tensors, stride, padding, dilation, groups, offset_groups = given.values()
    check_error(
        lambda *tensors: RAW.deform_conv2d(
            *tensors, stride, stride, padding, padding, dilation, dilation, groups, offset_groups, True
        ),
        *tensors,
    )


def test_deform_conv2d_of_no_stride():
    """Here the CPU divides by zero, and ends."""
    x, weight, offset = map(on_device, (numbers(2, 4, 9, 8), numbers(3, 4, 3, 3), numbers(2, 18, 7, 6)))
    with pytest.raises(RuntimeError, match="stride"):
        ops.deform_conv2d(x, offset, weight, stride=(0, 1))


# What torchvision makes of PyTorch's ops.

COMPOSED = {
    "box_iou": lambda a, b, x: ops.box_iou(a, b),
    "generalized_box_iou": lambda a, b, x: ops.generalized_box_iou(a, b),
    "complete_box_iou": lambda a, b, x: ops.complete_box_iou(a, b),
    "distance_box_iou": lambda a, b, x: ops.distance_box_iou(a, b),
    "generalized_box_iou_loss": lambda a, b, x: ops.generalized_box_iou_loss(a, b, "sum"),
    "complete_box_iou_loss": lambda a, b, x: ops.complete_box_iou_loss(a, b, "sum"),
    "distance_box_iou_loss": lambda a, b, x: ops.distance_box_iou_loss(a, b, "sum"),
    "box_area": lambda a, b, x: ops.box_area(a),
    "box_convert": lambda a, b, x: [ops.box_convert(a, "xyxy", to) for to in ("xywh", "cxcywh")],
    "clip_boxes_to_image": lambda a, b, x: ops.clip_boxes_to_image(a, (9, 7)),
    "remove_small_boxes": lambda a, b, x: ops.remove_small_boxes(a, 4.0),
    "masks_to_boxes": lambda a, b, x: ops.masks_to_boxes(x[0] > 0.3),
    "sigmoid_focal_loss": lambda a, b, x: ops.sigmoid_focal_loss(x, (x > 0).to(x.dtype), reduction="mean"),
    "frozen_batch_norm": lambda a, b, x: ops.FrozenBatchNorm2d(4).to(x.device)(x),
    "multi_scale_roi_align": lambda a, b, x: ops.MultiScaleRoIAlign(["0", "1"], 3, 2)(
        {"0": x, "1": x[..., ::2, ::2]}, [a, b], [(32, 32), (32, 32)]
    ),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_composed(name):
    check(COMPOSED[name], boxes(9), boxes(9, seed=1), numbers(2, 4, 12, 10), rtol=1e-4, atol=1e-5)
    masked = name in ("masks_to_boxes", "remove_small_boxes", "frozen_batch_norm")
    if not masked:
        check(COMPOSED[name], boxes(9), boxes(9, seed=1), numbers(2, 4, 12, 10), grad=True, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("drop", [ops.stochastic_depth, ops.drop_block2d])
def test_composed_of_random_numbers(drop):
    x = torch.ones(16, 4, 8, 8, device=DEVICE)
    out = drop(x, 0.5, "row") if drop is ops.stochastic_depth else drop(x, 0.3, 3)
    assert 0 < (out == 0).sum().item() < out.numel()


def test_compiled():
    """torchvision's ops run as they were traced; what is around them is compiled."""

    def pooled(x, r):
        return ops.roi_align(torch.relu(x) * 2, r, (3, 3), 0.5, 2, True).sin()

    x, some = numbers(2, 4, 17, 13), rois(9, 2)
    actual, expected = on_device(x).requires_grad_(), x.clone().requires_grad_()
    torch.compile(pooled, backend="rust_backend")(actual, on_device(some)).sum().backward()
    pooled(expected, some).sum().backward()
    torch.testing.assert_close(actual.grad.cpu(), expected.grad)
    kept = torch.compile(lambda b, s: ops.nms(b + 1, s, 0.3) * 2, backend="rust_backend")
    scores = torch.rand(9)
    assert torch.equal(kept(on_device(some[:, 1:]), on_device(scores)).cpu(), ops.nms(some[:, 1:] + 1, scores, 0.3) * 2)


# Models.


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "maskrcnn_resnet50_fpn"])
def test_detection_models(name):
    """Trains a step and predicts, without a fallback; in f64 what is found is what the CPU finds."""
    torch.manual_seed(1)
    image = torch.rand(3, 64, 80)
    make = getattr(torchvision.models.detection, name)
    here = make(weights=None, weights_backbone=None, num_classes=5, min_size=64, max_size=96)
    there = copy.deepcopy(here).to(DEVICE)
    target = {
        "boxes": torch.tensor([[3.0, 4, 40, 50], [20, 10, 70, 60]]),
        "labels": torch.tensor([1, 3]),
        "masks": torch.randint(0, 2, (2, 64, 80), dtype=torch.uint8),
    }
    losses = there.train()([image.to(DEVICE)], [{key: value.to(DEVICE) for key, value in target.items()}])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in there.parameters() if p.grad is not None)
    there = copy.deepcopy(here.double()).to(DEVICE)
    with torch.no_grad():
        expected, actual = here.eval()([image.double()])[0], there.eval()([image.double().to(DEVICE)])[0]
    assert len(expected["boxes"]) > 10
    for key, value in expected.items():
        torch.testing.assert_close(actual[key].cpu(), value, rtol=1e-6, atol=1e-6)


# Loading: torchvision may come before the device, after it, or never.

SCRIPTS = {
    "never": """
import sys
sys.modules["torchvision"] = None  # it cannot be imported
import torch, rustorch_device
assert torch.ones(3, device="rustorch").sum().item() == 3
assert not hasattr(torch.ops.torchvision, "nms")
""",
    "before": """
import torch, torchvision, rustorch_device
""",
    "after": """
import torch, rustorch_device
assert torch.ones(3, device="rustorch").sum().item() == 3
import torchvision
""",
}
USE = """
boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2.1], [4, 4, 5, 5]], device="rustorch")
kept = torchvision.ops.nms(boxes, torch.tensor([0.1, 0.9, 0.5], device="rustorch"), 0.5)
assert kept.tolist() == [1, 2] and kept.device.type == "rustorch"
image = torch.ones(1, 1, 4, 4, device="rustorch", requires_grad=True)
torchvision.ops.roi_align(image, [boxes], 2).sum().backward()
assert image.grad.device.type == "rustorch"
"""


@pytest.mark.parametrize("when", SCRIPTS)
def test_loading(when):
    script = SCRIPTS[when] + (USE if when != "never" else "")
    environment = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "RUSTORCH_FALLBACK": "error", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
