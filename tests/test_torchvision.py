"""A training step of every family of torchvision's classification models, without a fallback.

Small members and small images here; RUSTORCH_EVERY_MODEL=1 runs all of torchvision's.
"""

import copy
import os

import pytest
import torch
import torch.nn.functional as F
import torchvision
from compared import numbers
from torchvision import models
from torchvision.models.convnext import CNBlockConfig as Block

EVERY = torchvision.models.list_models(module=torchvision.models)
#: A member of each family and the side of its images. Batch norms over two values (efficientnet's last ones, of 32)
#: would magnify the rounding of f64 to a millionth.
FAMILIES = {
    "alexnet": (models.alexnet, 64),
    "vgg": (models.vgg11_bn, 32),
    "resnet": (models.resnet18, 32),
    "densenet": (lambda **named: models.DenseNet(8, (2, 2), 16, **named), 32),
    "googlenet": (lambda **named: models.googlenet(init_weights=False, **named), 32),
    "inception": (lambda **named: models.inception_v3(init_weights=False, aux_logits=False, **named), 75),
    "mobilenet_v2": (models.mobilenet_v2, 32),
    "mobilenet_v3": (models.mobilenet_v3_small, 32),
    "shufflenet": (models.shufflenet_v2_x0_5, 32),
    "squeezenet": (models.squeezenet1_1, 32),
    "mnasnet": (models.mnasnet0_5, 32),
    "efficientnet": (models.efficientnet_b0, 64),
    "regnet": (models.regnet_y_400mf, 32),
    "convnext": (lambda **named: models.ConvNeXt([Block(16, 32, 2), Block(32, None, 1)], **named), 32),
    "vit": (lambda **named: models.VisionTransformer(32, 8, 2, 2, 24, 48, **named), 32),
    "swin": (lambda **named: models.SwinTransformer([4, 4], 12, [2, 2], [2, 4], [4, 4], **named), 32),
    "swin_v2": (
        lambda **named: models.SwinTransformer(
            [4, 4],
            12,
            [2, 2],
            [2, 4],
            [4, 4],
            block=models.swin_transformer.SwinTransformerBlockV2,
            downsample_layer=models.swin_transformer.PatchMergingV2,
            **named,
        ),
        32,
    ),
    "maxvit": (lambda **named: models.MaxVit((32, 32), 8, 2, [8, 16], [1, 1], 8, 0.1, **named), 32),
}  # fmt: skip


def training_step(model, images, labels):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    out = model(images)
    out = out if isinstance(out, torch.Tensor) else out[0]
    loss = F.cross_entropy(out, labels)
    loss.backward()
    optimizer.step()
    return loss.detach()


def without_dropout(model):
    """What is dropped differs from device to device."""
    for module in model.modules():
        for name in ("p", "dropout", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model


def compare(make, side):
    """In f64: batch norms of a few pixels would magnify f32's rounding."""
    torch.manual_seed(0)
    here = without_dropout(make(num_classes=10)).double()
    there = copy.deepcopy(here).to("rustorch")
    images, labels = numbers(2, 3, side, side, dtype=torch.float64), torch.tensor([3, 7])
    actual = training_step(there, images.to("rustorch"), labels.to("rustorch"))
    expected = training_step(here, images, labels)
    torch.testing.assert_close(actual.cpu(), expected, rtol=1e-6, atol=1e-6)


def run(make, side):
    """In f32, as people train: no fallback, and numbers."""
    torch.manual_seed(0)
    model = make(num_classes=10).to("rustorch")
    loss = training_step(model, numbers(2, 3, side, side).to("rustorch"), torch.tensor([3, 7], device="rustorch"))
    assert loss.isfinite()
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_training_step(family):
    run(*FAMILIES[family])
    if family not in ("alexnet", "vgg"):  # their wide layers take half a minute in f64
        compare(*FAMILIES[family])


@pytest.mark.skipif("RUSTORCH_EVERY_MODEL" not in os.environ, reason="RUSTORCH_EVERY_MODEL=1 runs every model")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", EVERY)
def test_a_training_step_of_every_model(name):
    is_fixed = name.startswith(("vit_", "maxvit"))
    side = 518 if "h_14" in name else 224 if is_fixed else 299 if name.startswith("inception") else 64
    run(lambda **named: models.get_model(name, weights=None, **named), side)
