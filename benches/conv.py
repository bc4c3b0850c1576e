"""Convolutions in f32: forward, gradient of the input (dgrad), gradient of the weight (wgrad)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .harness import Case, both, size


@dataclass
class Shape:
    inputs: int
    outputs: int
    sizes: tuple[int, ...]
    kernel: int
    stride: int
    groups: int
    batch: int
    padding: int = 0
    dilation: int = 1
    transposed: bool = False

    def __str__(self) -> str:
        extras = [f"stride {self.stride}"] if self.stride != 1 else []
        extras += [f"groups {self.groups}"] if self.groups != 1 else []
        extras += [f"dilation {self.dilation}"] if self.dilation != 1 else []
        extras += ["transposed"] if self.transposed else []
        size = "x".join(map(str, self.sizes))
        name = f"{self.batch} x {self.inputs}→{self.outputs} {size} kernel {self.kernel}"
        return ", ".join([name, *extras])


def image(inputs: int, outputs: int, size: int, kernel: int, stride: int, groups: int, batch: int, **more) -> Shape:
    """With "same" padding, but for the MNIST net's convolutions, which have none."""
    more.setdefault("padding", more.get("dilation", 1) * (kernel // 2))
    return Shape(inputs, outputs, (size, size), kernel, stride, groups, batch, **more)


SHAPES = (
    image(1, 32, 28, 3, 1, 1, 64, padding=0),
    image(32, 64, 26, 3, 1, 1, 64, padding=0),
    image(3, 64, 224, 7, 2, 1, 2),
    image(3, 16, 32, 3, 1, 1, 32),
    image(16, 16, 32, 3, 1, 1, 32),
    image(64, 64, 56, 3, 1, 1, 4),
    image(64, 128, 56, 3, 2, 1, 4),
    image(128, 128, 28, 3, 1, 1, 4),
    image(256, 256, 14, 3, 1, 1, 8),
    image(512, 512, 7, 3, 1, 1, 8),
    image(64, 256, 56, 1, 1, 1, 2),
    image(256, 64, 56, 1, 1, 1, 2),
    image(64, 128, 56, 1, 2, 1, 4),
    image(96, 96, 56, 3, 1, 96, 4),
    image(144, 144, 28, 3, 2, 144, 4),
    image(32, 32, 56, 5, 2, 32, 4),
    image(16, 32, 64, 3, 1, 1, 2, dilation=2),
    image(64, 32, 32, 2, 2, 1, 4, transposed=True, padding=0),
    Shape(32, 64, (4096,), 9, 4, 1, 8, padding=4),
    image(128, 128, 28, 3, 1, 4, 4),
)


def cases(quick: bool) -> Iterator[Case]:
    for shape in SHAPES[:2] if quick else SHAPES:
        rank = len(shape.sizes)
        x = torch.randn(shape.batch, shape.inputs, *shape.sizes)
        ends = (shape.inputs, shape.outputs) if shape.transposed else (shape.outputs, shape.inputs)
        w = torch.randn(ends[0], ends[1] // shape.groups, *[shape.kernel] * rank) / shape.kernel**rank
        spread = ([shape.stride] * rank, [shape.padding] * rank, [shape.dilation] * rank)
        rest = (*spread, shape.transposed, [0] * rank, shape.groups)
        y = torch.ops.aten.convolution(x, w, None, *rest)
        g = torch.randn_like(y)

        def forward(x, w, g, rest=rest):
            return torch.ops.aten.convolution(x, w, None, *rest)

        def dgrad(x, w, g, rest=rest):
            return torch.ops.aten.convolution_backward(g, x, w, None, *rest, [True, False, False])[0]

        def wgrad(x, w, g, rest=rest):
            return torch.ops.aten.convolution_backward(g, x, w, None, *rest, [False, True, False])[1]

        # Each element of a result is a sum over the weights of its channel (of the input's, where transposed).
        reached = x if shape.transposed else y
        flops = 2 * reached.numel() * w[0].numel()
        read = {forward: (x, w, y), dgrad: (g, w, x), wgrad: (g, x, w)}
        for kind, tensors in read.items():
            name = f"{shape}: {kind.__name__}"
            yield both("conv", name, kind, x, w, g, flops=flops, moved=size(tensors))
