"""What a call costs: tiny tensors, so that the work is next to nothing."""

import operator
from collections.abc import Iterator

import torch

from .harness import Case, both


def cases(quick: bool) -> Iterator[Case]:
    for count in (10,) if quick else (10, 100):
        a, b = torch.randn(count), torch.randn(count)
        yield both("overhead", f"a + b, {count} elements", operator.add, a, b)
        yield both("overhead", f"relu, {count} elements", torch.relu, a)
        # By ones, so that repeating it changes nothing.
        yield both("overhead", f"mul_, {count} elements", torch.Tensor.mul_, a, torch.ones(count))
        yield both("overhead", f"mul_ by a number, {count} elements", torch.Tensor.mul_, a, 1.0)
        yield both("overhead", f"sum, {count} elements", torch.sum, a)
    if quick:
        return
    square = torch.randn(8, 8)
    yield both("overhead", "mm, 8x8", torch.mm, square, torch.randn(8, 8))
    yield both("overhead", "linear, 8x8", torch.nn.functional.linear, square, torch.randn(8, 8), torch.randn(8))
    yield both("overhead", "view, 8x8", torch.Tensor.view, square, 64)
    yield both("overhead", "t, 8x8", torch.t, square)
    # On the fallback.
    for op in (torch.special.bessel_j0, torch.special.bessel_y1, torch.fft.rfft):
        yield both("overhead", f"{op.__name__} (fallback), 10 elements", op, torch.rand(10))
