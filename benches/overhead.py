"""What a call costs: tiny tensors."""

from collections.abc import Iterator

import torch

from .harness import Case, both


def cases(quick: bool) -> Iterator[Case]:
    a, b = torch.randn(10), torch.randn(10)
    yield both("overhead", "a + b, 10 elements", torch.add, a, b)
    yield both("overhead", "relu, 10 elements", torch.relu, a)
    if quick:
        return
    yield both("overhead", "mul by a number, 10 elements", lambda x: x * 2.0, a)
    yield both("overhead", "sum, 10 elements", torch.sum, a)
    yield both("overhead", "mm, 4x4", torch.mm, torch.randn(4, 4), torch.randn(4, 4))
    yield both("overhead", "empty_like, 10 elements", torch.empty_like, a, tolerance=float("inf"))
    yield both("overhead", "view, 10 elements", lambda x: x.view(2, 5), a)
