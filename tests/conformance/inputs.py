"""The arguments of a call, copied: strides, storage shared between tensors, and lazy bits kept."""

from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = "rustorch"
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
    "int16": torch.int16,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "bool": torch.bool,
    "complex64": torch.complex64,
}


class NotDense(Exception):
    """The call has a tensor that no rustorch tensor can stand for (sparse, quantised, nested)."""


def expect_dense(tree: Any) -> None:
    for item in tree_flatten(tree)[0]:
        if isinstance(item, torch.Tensor) and (item.layout != torch.strided or item.is_quantized or item.is_nested):
            raise NotDense(f"a tensor of layout {item.layout}")


class Mover:
    """Copies tensors to `device`. Tensors that share memory share it there too."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.storages: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def storage(self, original: torch.UntypedStorage) -> torch.UntypedStorage:
        key = original._cdata
        if key not in self.storages:
            whole = torch.empty(0, dtype=torch.uint8, device=original.device).set_(original)
            copy = whole.clone() if self.device == "cpu" else whole.to(self.device)
            # The original is kept, so that its address names no other storage meanwhile.
            self.storages[key] = (original, copy.untyped_storage())
        return self.storages[key][1]

    def tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        expect_dense(tensor)
        wanted, bare = tensor.requires_grad, tensor.detach()
        conjugate, negative = bare.is_conj(), bare.is_neg()
        bare = bare.conj() if conjugate else bare
        bare = torch._neg_view(bare) if negative else bare
        moved = torch.empty(0, dtype=bare.dtype, device=self.device)
        moved.set_(self.storage(bare.untyped_storage()), bare.storage_offset(), bare.size(), bare.stride())
        moved = torch._neg_view(moved) if negative else moved
        moved = moved.conj() if conjugate else moved
        if isinstance(tensor, torch.nn.Parameter):
            return torch.nn.Parameter(moved, requires_grad=wanted)
        return moved.requires_grad_(wanted)

    def value(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.tensor(value)
        if isinstance(value, torch.device) or (isinstance(value, str) and value == "cpu"):
            return torch.device(self.device)
        return value

    def __call__(self, tree: Any) -> Any:
        return tree_map(self.value, tree)


def where_asked(op: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments after the first where the op asks for them: the indices of `tensor_split` are on the CPU."""
    if op.name != "tensor_split":
        return args, kwargs
    return tree_map(lambda value: value.cpu() if isinstance(value, torch.Tensor) else value, (args, kwargs))


def evenly(items: list[Any], limit: int) -> list[Any]:
    """At most `limit` of the items, the first and the last among them."""
    if len(items) <= limit:
        return items
    return [items[round(index * (len(items) - 1) / (limit - 1))] for index in range(limit)]
