"""Scaled dot-product attention, full, causal and masked, forward and backward."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from .harness import Case, both_ways

#: Batch, heads, length, width of a head.
SHAPES = ((4, 8, 128, 32), (4, 8, 256, 64), (1, 12, 1024, 64))


def causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


def cases(quick: bool) -> Iterator[Case]:
    for shape in SHAPES[:1] if quick else SHAPES:
        batch, heads, length, width = shape
        inputs = [torch.randn(shape) for _ in range(3)]
        # Whom each may attend to: some three quarters, itself always.
        mask = (torch.rand(batch, 1, length, length) < 0.75) | torch.eye(length, dtype=torch.bool)
        size = "x".join(map(str, shape))
        # Two products; a causal one needs half of each.
        flops = 4 * batch * heads * length * length * width
        full = F.scaled_dot_product_attention
        yield from both_ways("attention", f"full, {size}", full, *inputs, flops=flops)
        yield from both_ways("attention", f"causal, {size}", causal, *inputs, flops=flops // 2)
        yield from both_ways("attention", f"masked, {size}", full, *inputs, mask, flops=flops)
