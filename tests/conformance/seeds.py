"""Gradients to start a backward from."""

from typing import Any

import torch
from torch.utils._pytree import tree_flatten


def differentiable(tree: Any) -> list[torch.Tensor]:
    return [item for item in tree_flatten(tree)[0] if isinstance(item, torch.Tensor) and item.requires_grad]


def seeds_like(results: list[torch.Tensor]) -> list[torch.Tensor]:
    """The same numbers at each call, whatever the device.

    They are drawn in f64, so that every dtype has the seeds of its rounding.
    """
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(
            result.shape,
            generator=generator,
            dtype=torch.promote_types(result.dtype, torch.float64),
            device="cpu",
        ).to(result)
        for result in results
    ]
