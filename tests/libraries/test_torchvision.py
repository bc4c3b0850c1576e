"""torchvision on the device: its ops, and its models of detection, segmentation, key points and video."""

import copy

import pytest
import torch
from torch import nn

torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed: `make build` installs it")

from torchvision import models, ops  # noqa: E402

DEVICE = "rustorch"

CORNERS = torch.rand(50, 4, generator=torch.Generator().manual_seed(0)) * 20
BOXES = torch.cat([CORNERS[:, :2], CORNERS[:, :2] + CORNERS[:, 2:] + 1], 1)
SCORES = torch.rand(50, generator=torch.Generator().manual_seed(1))
KINDS = torch.arange(50) % 3
REGIONS = torch.cat([(torch.arange(50.0) % 2)[:, None], BOXES / 2], 1)
IMAGES = torch.rand(2, 8, 16, 16, generator=torch.Generator().manual_seed(2))
OFFSETS = torch.randn(2, 18, 14, 14, generator=torch.Generator().manual_seed(3))
WEIGHTS = torch.randn(4, 8, 3, 3, generator=torch.Generator().manual_seed(4))

OPS = {
    "nms": (lambda boxes, scores: ops.nms(boxes, scores, 0.3), [BOXES, SCORES]),
    "batched_nms": (
        lambda boxes, scores, of: ops.batched_nms(boxes, scores, of, 0.3),
        [BOXES, SCORES, KINDS],
    ),
    "box_iou": (ops.box_iou, [BOXES, BOXES[:7]]),
    "roi_align": (lambda images, regions: ops.roi_align(images, regions, 3), [IMAGES, REGIONS]),
    "roi_pool": (lambda images, regions: ops.roi_pool(images, regions, 3), [IMAGES, REGIONS]),
    "ps_roi_align": (lambda images, regions: ops.ps_roi_align(images, regions, 2), [IMAGES, REGIONS]),
    "ps_roi_pool": (lambda images, regions: ops.ps_roi_pool(images, regions, 2), [IMAGES, REGIONS]),
    "deform_conv2d": (ops.deform_conv2d, [IMAGES, OFFSETS, WEIGHTS]),
    "sigmoid_focal_loss": (ops.sigmoid_focal_loss, [SCORES, SCORES.round()]),
}


@pytest.mark.parametrize("name", OPS)
def test_an_op_is_the_cpus(name):
    op, inputs = OPS[name]
    results, gradients = [], []
    for device in ("cpu", DEVICE):
        first = inputs[0].detach().to(device).requires_grad_(name not in ("nms", "batched_nms"))
        result = op(first, *(value.to(device) for value in inputs[1:]))
        results.append(result.detach())
        if result.requires_grad:
            result.square().sum().backward()
            gradients.append(first.grad)
    assert results[1].device.type == DEVICE
    torch.testing.assert_close(results[1].cpu(), results[0], rtol=1e-4, atol=1e-5)
    if gradients:
        torch.testing.assert_close(gradients[1].cpu(), gradients[0], rtol=1e-3, atol=1e-4)


#: Every candidate is taken, as which of them a smaller sample has depends on the device's random numbers.
WHOLE = {
    "rpn_batch_size_per_image": 4096,
    "box_batch_size_per_image": 4096,
    "rpn_post_nms_top_n_train": 40,
    "rpn_post_nms_top_n_test": 20,
}
SMALL = {"weights": None, "weights_backbone": None, "num_classes": 3, "min_size": 64, "max_size": 96}
DETECTORS = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": WHOLE,
    "maskrcnn_resnet50_fpn": WHOLE,
    "keypointrcnn_resnet50_fpn": WHOLE | {"num_classes": 2},
    "retinanet_resnet50_fpn": {"score_thresh": 0.0},
    "fcos_resnet50_fpn": {"score_thresh": 0.0},
}


def moved(value, device: str):
    if isinstance(value, dict):
        return {name: moved(part, device) for name, part in value.items()}
    return value.to(device)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_trains_and_infers_as_on_the_cpu(name):
    torch.manual_seed(0)
    model = models.get_model(name, **(SMALL | DETECTORS[name]))
    image = torch.rand(3, 64, 80)
    target = {"boxes": torch.tensor([[5.0, 5.0, 40.0, 50.0]]), "labels": torch.tensor([1])}
    if name.startswith("mask"):
        target["masks"] = torch.ones(1, 64, 80, dtype=torch.uint8)
    if name.startswith("keypoint"):
        target["keypoints"] = torch.tensor([[[10.0, 10.0, 1.0]] * 17])
    losses, found = [], []
    for device in ("cpu", DEVICE):
        there = copy.deepcopy(model).to(device).train()
        loss = there([image.to(device)], [moved(target, device)])
        sum(loss.values()).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in there.parameters())
        losses.append(loss)
        with torch.no_grad():
            found.append(there.eval()([image.to(device)])[0])
    assert {value.device.type for value in (losses[1] | found[1]).values()} == {DEVICE}
    torch.testing.assert_close(moved(losses[1], "cpu"), losses[0], rtol=1e-2, atol=1e-3)
    assert found[0]["scores"].numel() > 0
    torch.testing.assert_close(found[1]["scores"].cpu(), found[0]["scores"], rtol=1e-2, atol=1e-3)


SEEING = {
    "lraspp_mobilenet_v3_large": (3, 64, 64),
    "deeplabv3_mobilenet_v3_large": (3, 64, 64),
    "fcn_resnet50": (3, 64, 64),
    "r3d_18": (3, 4, 32, 32),
    "mc3_18": (3, 4, 32, 32),
    "swin3d_t": (3, 4, 32, 32),
}


CASES = [(name, False) for name in SEEING] + [(name, True) for name in ("lraspp_mobilenet_v3_large", "r3d_18")]


@pytest.mark.parametrize(("name", "compiled"), CASES)
def test_segmentation_and_video(name, compiled):
    """As near to f64's results as the CPU's f32 is."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    backbone = {"weights_backbone": None} if len(SEEING[name]) == 3 else {}
    model = models.get_model(name, weights=None, num_classes=4, **backbone)
    for part in model.modules():
        if isinstance(part, (nn.Dropout, ops.StochasticDepth)):
            part.p = 0.0
    x = torch.rand(2, *SEEING[name])
    outputs, gradients = [], []
    for device, dtype in (("cpu", torch.float64), ("cpu", torch.float32), (DEVICE, torch.float32)):
        there = copy.deepcopy(model).to(device, dtype).train()
        run = torch.compile(there, backend="rust_backend") if compiled and device == DEVICE else there
        output = run(x.to(device, dtype))
        output = output["out"] if isinstance(output, dict) else output
        output.square().mean().backward()
        outputs.append(output.detach().cpu().double())
        grads = {name: p.grad.cpu().double() for name, p in there.named_parameters() if p.grad is not None}
        gradients.append(grads)
    exact, theirs, ours = ({"output": output, **grads} for output, grads in zip(outputs, gradients, strict=True))
    assert gradients[0] and ours.keys() == theirs.keys() == exact.keys()
    for part, value in exact.items():
        error, bound = (ours[part] - value).norm(), (theirs[part] - value).norm()
        assert error <= 4 * bound + 1e-5 * value.norm() + 1e-7, part
