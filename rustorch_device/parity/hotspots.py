"""Which node of a model differs most: each op that runs on the CPU also runs on rustorch, on the
same inputs, and its results are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from rustorch_device import _device_module
from rustorch_device.parity.models import Case
from rustorch_device.parity.run import FACTOR, Tolerance, distance, prepared


@dataclass
class Hotspot:
    """A node's error, in units of what is allowed."""

    node: str
    error: float
    shapes: str


class Shadow(TorchDispatchMode):
    """Runs every op on rustorch beside the CPU, and keeps each node's error."""

    def __init__(self, tolerance: Tolerance) -> None:
        super().__init__()
        self.tolerance = tolerance
        self.hotspots: list[Hotspot] = []
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs `func` on the CPU for its result, and on rustorch for the comparison."""
        kwargs = kwargs or {}
        writes = func._schema.is_mutable
        # Random, or with a workspace of the CPU library's own among its results.
        is_private = torch.Tag.nondeterministic_seeded in func.tags or "mkldnn" in str(func)
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if is_private or not leaves or any(leaf.device.type != "cpu" for leaf in leaves):
            return func(*args, **kwargs)
        # Before the CPU writes: an op in place changes its arguments.
        moved = tree_map_only(torch.Tensor, lambda tensor: tensor.to("rustorch"), (args, kwargs))
        expected = func(*args, **kwargs)
        actual = func(*moved[0], **moved[1])
        compared = (moved, (args, kwargs)) if writes else (actual, expected)
        for index, (mine, theirs) in enumerate(zip(*map(tree_leaves, compared), strict=True)):
            if isinstance(theirs, torch.Tensor) and theirs.device.type == "cpu":
                mine, theirs = mine.detach().cpu(), theirs.detach()
                if mine.is_floating_point() and theirs.is_floating_point():
                    # Statistics of norms may be kept in another dtype: what counts is what both say.
                    coarser = max(mine.dtype, theirs.dtype, key=lambda dtype: torch.finfo(dtype).eps)
                    mine, theirs = mine.to(coarser), theirs.to(coarser)
                error = distance(mine, theirs, self.tolerance)
                if error > 1 and not writes and (exact := _in_f64(func, args, kwargs, index)) is not None:
                    own = distance(theirs.double(), exact, self.tolerance)
                    error = min(error, distance(mine.double(), exact, self.tolerance) / (1 + FACTOR * own))
                shapes = ", ".join(str(list(leaf.shape)) for leaf in leaves)
                self.hotspots.append(Hotspot(f"{func} #{self.count}", error, shapes))
        self.count += 1
        return expected


def _in_f64(func: Any, args: Any, kwargs: Any, index: int) -> torch.Tensor | None:
    """One of the results of `func` on the CPU in f64; None where it takes no f64, or gives no floats."""

    def widened(value: torch.Tensor) -> torch.Tensor:
        return value.double() if value.is_floating_point() else value

    try:
        result = tree_leaves(func(*tree_map_only(torch.Tensor, widened, args), **kwargs))[index]
    except (RuntimeError, NotImplementedError):
        return None
    return result.double() if isinstance(result, torch.Tensor) and result.is_floating_point() else None


def find(case: Case, dtype: torch.dtype, tolerance: Tolerance, count: int) -> list[Hotspot]:
    """The nodes of one training step that differ most, the worst first; those that are equal are left out."""
    model, inputs = prepared(case, "cpu", dtype)
    before = _device_module.set_fallback_policy("silent")
    try:
        with Shadow(tolerance) as shadow:
            case.loss(model(*inputs)).backward()
    finally:
        _device_module.set_fallback_policy(before)
    return sorted((spot for spot in shadow.hotspots if spot.error > 0), key=lambda spot: -spot.error)[:count]
