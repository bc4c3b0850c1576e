"""The suite: small forms of the kinds of model that people train, each with inputs and a loss."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Case:
    """A model to compare.

    Attributes:
        model: on the CPU, in f32.
        inputs: its arguments, on the CPU; those of a floating dtype are cast with the model.
        loss: from the model's results to a scalar that is differentiated.
    """

    model: nn.Module
    inputs: tuple[torch.Tensor, ...]
    loss: Callable[[Any], torch.Tensor]


def classified(model: nn.Module, shape: tuple[int, ...], classes: int) -> Case:
    """A classifier with inputs of noise and targets by chance."""
    targets = torch.randint(0, classes, shape[:1])
    return Case(model, (torch.randn(shape),), lambda logits: F.cross_entropy(logits, targets.to(logits.device)))


def from_torchvision(name: str, shape: tuple[int, ...], **arguments: Any) -> Case:
    """A classifier of torchvision, with weights by chance."""
    models = importlib.import_module("torchvision.models")
    return classified(getattr(models, name)(weights=None, **arguments), shape, arguments.get("num_classes", 1000))


class MLP(nn.Sequential):
    """784-512-512-10 with ReLU."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


class MnistCnn(nn.Sequential):
    """Two 3x3 convolutions, a pooling, two fully connected layers; input `(N, 1, 28, 28)`."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10)),
        )


class Block(nn.Module):
    """A layer of a transformer decoder: causal attention and a feed-forward net, each on a normalised input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(batch, length, width)` to the same."""
        batch, length, width = x.shape
        qkv = self.qkv(self.norms[0](x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.feed(self.norms[1](x))


class GPT(nn.Module):
    """A decoder-only transformer over `vocabulary` tokens; the output layer shares the embedding's weight."""

    def __init__(self, layers: int = 4, width: int = 256, heads: int = 8, vocabulary: int = 256, length: int = 128):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """`(batch, length)` of i64 to logits `(batch, length, vocabulary)`."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return self.head(self.norm(self.blocks(self.tokens(tokens) + self.positions(positions))))


class Recurrent(nn.Module):
    """Two LSTM layers and a classifier on the last state; input `(batch, length, features)`."""

    def __init__(self, features: int = 32, width: int = 128) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, width, num_layers=2, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits `(batch, 10)`."""
        return self.head(self.lstm(x)[0][:, -1])


class UNet(nn.Module):
    """Three levels of convolutions with batch norm, joined across; up by transposed convolutions."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()

        def convolutions(before: int, after: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for channels in (before, after):
                layers += [nn.Conv2d(channels, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            return nn.Sequential(*layers)

        widths = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(convolutions(*pair) for pair in zip([3, *widths], widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.join = nn.ModuleList(convolutions(2 * w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(N, 3, H, W)` to the same, H and W multiples of four."""
        kept = []
        for level, convolutions in enumerate(self.down):
            x = convolutions(x if level == 0 else F.max_pool2d(x, 2))
            kept.append(x)
        kept.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([up(x), kept.pop()], dim=1))
        return self.head(x)


def _gpt() -> Case:
    tokens, targets = torch.randint(0, 256, (8, 128)), torch.randint(0, 256, (8, 128))
    return Case(
        GPT(), (tokens,), lambda logits: F.cross_entropy(logits.flatten(0, 1), targets.flatten().to(logits.device))
    )


def _vit() -> Case:
    transformer = importlib.import_module("torchvision.models.vision_transformer").VisionTransformer
    return classified(transformer(64, 8, 4, 4, 192, 768), (4, 3, 64, 64), 1000)


def _unet() -> Case:
    target = torch.randn(2, 3, 64, 64)
    return Case(UNet(), (torch.randn(2, 3, 64, 64),), lambda out: F.mse_loss(out, target.to(out)))


#: The suite: from a name to what makes the case.
SUITE: dict[str, Callable[[], Case]] = {
    "mlp_1": lambda: classified(MLP(), (1, 784), 10),
    "mlp_64": lambda: classified(MLP(), (64, 784), 10),
    "mnist_cnn": lambda: classified(MnistCnn(), (64, 1, 28, 28), 10),
    "resnet18_32": lambda: from_torchvision("resnet18", (16, 3, 32, 32)),
    "resnet18_224": lambda: from_torchvision("resnet18", (2, 3, 224, 224)),
    "mobilenet_v2": lambda: from_torchvision("mobilenet_v2", (4, 3, 128, 128), dropout=0.0),
    "vit": _vit,
    "gpt": _gpt,
    "lstm": lambda: classified(Recurrent(), (16, 64, 32), 10),
    "unet": _unet,
}


def from_path(path: str) -> Case:
    """The case that a user's own factory makes.

    Args:
        path: `package.module:factory`. The factory takes nothing and gives a `Case`, a
            `(model, inputs)` or a `(model, inputs, loss)`; without a loss the results are summed.

    Raises:
        ValueError: where the path has another form, or the factory gives something else.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise ValueError(f"--module takes package.module:factory, got {path!r}")
    made = getattr(importlib.import_module(module), name)()
    if isinstance(made, Case):
        return made
    if not (isinstance(made, tuple) and len(made) in (2, 3) and isinstance(made[0], nn.Module)):
        raise ValueError(f"{path} gave {type(made).__name__}; wanted (model, inputs) or (model, inputs, loss)")
    inputs = tuple(made[1]) if isinstance(made[1], (list, tuple)) else (made[1],)
    return Case(made[0], inputs, made[2] if len(made) == 3 else _total)


def _total(results: Any) -> torch.Tensor:
    leaves = torch.utils._pytree.tree_leaves(results)
    return torch.stack([leaf.float().sum() for leaf in leaves if isinstance(leaf, torch.Tensor)]).sum()
