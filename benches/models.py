"""The models that are measured: the parity suite's, and others that are too large for it or of one use only."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import nn

from rustorch_device.parity.models import SUITE, Case, classified, from_torchvision

INFERENCE, TRAINING = "inference", "training"
BOTH = (INFERENCE, TRAINING)


@dataclass(frozen=True)
class Model:
    """A model, what is measured of it, and how it is trained."""

    make: Callable[[], Case]
    modes: tuple[str, ...] = BOTH
    optimizer: Callable[..., torch.optim.Optimizer] = field(default=torch.optim.SGD)


def _mlp(widths: tuple[int, ...], activation: type[nn.Module], batch: int) -> Case:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), activation()]
    return classified(nn.Sequential(*layers[:-1]), (batch, widths[0]), widths[-1])


class Bert(nn.Module):
    """The encoder of transformers' BertModel: from tokens to the states of its last layer."""

    def __init__(self) -> None:
        super().__init__()
        transformers = importlib.import_module("transformers")
        sizes = {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
        self.bert = transformers.BertModel(transformers.BertConfig(**sizes), add_pooling_layer=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """`(batch, length)` of i64 to `(batch, length, 384)`."""
        return self.bert(tokens).last_hidden_state


def _bert(batch: int, length: int) -> Case:
    return Case(Bert(), (torch.randint(0, 30_000, (batch, length)),), lambda states: states.square().mean())


def _inference(make: Callable[[], Case]) -> Model:
    return Model(make, (INFERENCE,))


IMAGE = (1, 3, 224, 224)
MODELS: dict[str, Model] = {name: Model(make) for name, make in SUITE.items()} | {
    "mlp_small_1": _inference(lambda: _mlp((64, 256, 256, 8), nn.ReLU, 1)),
    "mlp_small_256": _inference(lambda: _mlp((64, 256, 256, 8), nn.ReLU, 256)),
    "mlp_rl": Model(lambda: _mlp((64, 64, 64, 8), nn.Tanh, 32), (TRAINING,), torch.optim.Adam),
    "resnet50": _inference(lambda: from_torchvision("resnet50", IMAGE)),
    "mobilenet_v3_large": _inference(lambda: from_torchvision("mobilenet_v3_large", IMAGE)),
    "efficientnet_b0": _inference(lambda: from_torchvision("efficientnet_b0", IMAGE)),
    "convnext_tiny": _inference(lambda: from_torchvision("convnext_tiny", IMAGE)),
    "bert_1x128": _inference(lambda: _bert(1, 128)),
    "bert_8x64": _inference(lambda: _bert(8, 64)),
}
