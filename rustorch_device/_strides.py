"""What a node gives has the strides that it was traced with, and a graph's result the place in its storage.

Views and `as_strided` later in a graph were traced for them, and so were the graph's results.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node
from torch.utils._pytree import tree_leaves, tree_map_only


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _differ(tensor: torch.Tensor, strides: Sequence[int]) -> bool:
    """Whether an element lies elsewhere: strides of one element, or of none, say nothing."""
    if tensor.numel() == 0 or tensor.stride() == tuple(strides):
        return False
    return any(
        size > 1 and mine != theirs for size, mine, theirs in zip(tensor.shape, tensor.stride(), strides, strict=True)
    )


class Strides:
    """The strides that a graph's nodes were traced with, for the sizes at hand.

    Args:
        nodes: the graph's nodes.
        slots: the values of its arguments, which lead the nodes.
    """

    def __init__(self, nodes: list[Node], slots: list[Any]) -> None:
        #: What each size of the tracing is now.
        self._sizes: dict[Any, int] = {}
        for node, value in zip(nodes, slots, strict=False):
            traced = node.meta.get("val")
            if node.op == "placeholder" and isinstance(traced, torch.SymInt) and isinstance(value, int):
                self._sizes[traced.node.expr] = value

    def _number(self, traced: Any) -> int | None:
        """A size or stride of the tracing as a number; None where the arguments do not say it."""
        if isinstance(traced, int):
            return traced
        expression = traced.node.expr
        if expression not in self._sizes:
            number = expression.xreplace(self._sizes)
            if not number.is_Integer:
                return None
            self._sizes[expression] = int(number)
        return self._sizes[expression]

    def _strides_of(self, traced: torch.Tensor) -> list[int] | None:
        """The strides as numbers; None where the arguments do not say them."""
        if traced.layout != torch.strided:
            return None
        numbers = [self._number(stride) for stride in traced.stride()]
        known = [number for number in numbers if number is not None]
        return known if len(known) == len(numbers) else None

    def restore(self, node: Node, value: Any, arguments: Any) -> Any:
        """The node's result, copied where it lies otherwise in memory than it was traced.

        Raises:
            NotImplementedError: it is a view of an argument, of which a copy would be another tensor.
        """
        actual, traced = _tensors(value), _tensors(node.meta.get("val"))
        if len(actual) != len(traced):
            return value
        copies = {}
        for mine, theirs in zip(actual, traced, strict=True):
            strides = self._strides_of(theirs)
            # What PyTorch does not know the shape of (a workspace) has no strides to keep.
            if strides is None or mine.dim() != theirs.dim() or not _differ(mine, strides):
                continue
            storage = mine.untyped_storage()._cdata
            if any(argument.untyped_storage()._cdata == storage for argument in _tensors(arguments)):
                raise NotImplementedError(
                    f"it views an argument with strides {mine.stride()}, and was traced with {strides}"
                )
            copies[id(mine)] = torch.empty_strided(mine.shape, strides, dtype=mine.dtype, device=mine.device).copy_(
                mine
            )
        return tree_map_only(torch.Tensor, lambda leaf: copies.get(id(leaf), leaf), value) if copies else value


def count_from_first(value: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """A graph's result whose place in its storage is counted from the first element of `first`, the tensor that had the
    storage to itself.

    AOTAutograd makes a result that is a view of an argument anew, from the argument and the place of what the graph
    gives, and adds the argument's own place. A scatter into a view gives a tensor that lies in its storage as the view
    does in another, so that the place would be counted twice.
    """
    place = value.storage_offset() - first.storage_offset()
    if first.storage_offset() == 0 or place < 0:
        return value
    length = 1 + sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True))
    storage = torch.empty(place + max(length, 0), dtype=value.dtype, device=value.device)
    return storage.as_strided(value.shape, value.stride(), place).copy_(value)
