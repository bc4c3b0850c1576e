"""Softmax, losses, norms and pooling, forward and backward: rows of three lengths, and images."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from .harness import Case, both_ways

#: Rows and their length: that of digits, of ImageNet, of a language model's vocabulary.
ROWS = ((4096, 10), (1024, 1000), (64, 50_257))
IMAGES = (8, 64, 56, 56)

OF_ROWS: dict[str, Callable] = {
    "softmax": lambda x: F.softmax(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
}
OF_IMAGES: dict[str, Callable] = {
    "max_pool2d 2": lambda x: F.max_pool2d(x, 2),
    "max_pool2d 3, stride 2": lambda x: F.max_pool2d(x, 3, 2, 1),
    "avg_pool2d 2": lambda x: F.avg_pool2d(x, 2),
    "adaptive_avg_pool2d 1": lambda x: F.adaptive_avg_pool2d(x, 1),
}
#: These have a weight and a bias a channel.
NORMS: dict[str, Callable] = {
    "batch_norm": lambda x, weight, bias: F.batch_norm(x, None, None, weight, bias, training=True),
    "group_norm of 8": lambda x, weight, bias: F.group_norm(x, 8, weight, bias),
}


def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, weight.shape, weight, bias)


def cases(quick: bool) -> Iterator[Case]:
    for count, length in ROWS[:1] if quick else ROWS:
        x, size = torch.randn(count, length), f"{count} x {length}"
        for name, op in OF_ROWS.items():
            yield from both_ways("layers", f"{name}, {size}", op, x)
        targets = torch.randint(length, (count,))
        yield from both_ways("layers", f"cross_entropy, {size}", F.cross_entropy, x, targets)
        weight = (torch.randn(length), torch.randn(length))
        yield from both_ways("layers", f"layer_norm, {size}", layer_norm, x, *weight)
    x, size = torch.randn(IMAGES), "x".join(map(str, IMAGES))
    for name, op in OF_IMAGES.items():
        yield from both_ways("layers", f"{name}, {size}", op, x)
    weight = (torch.randn(IMAGES[1]), torch.randn(IMAGES[1]))
    for name, op in NORMS.items():
        yield from both_ways("layers", f"{name}, {size}", op, x, *weight)
