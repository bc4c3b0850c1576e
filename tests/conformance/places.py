"""Ops that tell where elements are. Which of equal elements they mean PyTorch leaves open, save in stable sorts."""

from typing import Any

import torch

#: Where each op takes its dimension, after the tensor.
DIM = {"argsort": 0, "kthvalue": 1, "median": 0, "mode": 0, "nanmedian": 0, "sort": 0, "topk": 1}


#: The same of ops that pass gradients to elements by their places.
SORTED = {**DIM, "msort": None}


#: Ops that give one of equal elements, which may be a zero of either sign.
ONE_OF_EQUAL = {*SORTED, "unique"}


def gradients_of(op: Any, arguments: Any, gradients: Any) -> Any:
    """The gradients, of which those of a line's equal elements come in their own order."""
    first, args, kwargs = arguments
    if op.name not in SORTED or gradients is None or first.dim() == 0 or kwargs.get("stable"):
        return gradients
    at = SORTED[op.name]
    dim = 0 if at is None else args[at] if len(args) > at else kwargs.get("dim", -1)
    gradient, *rest = gradients
    order = gradient.argsort(dim=dim, stable=True)
    order = order.gather(dim, first.detach().gather(dim, order).argsort(dim=dim, stable=True))
    return gradient.gather(dim, order), *rest


def elements_of(op: Any, arguments: Any, result: Any) -> Any:
    """`result` with the elements that are at its places, and how many places it names, for the places."""
    first, args, kwargs = arguments
    at = DIM.get(op.name, 0)
    dim = args[at] if len(args) > at else kwargs.get("dim")
    whole = dim is None and op.name in ("median", "nanmedian")
    if op.name not in DIM or kwargs.get("stable") or whole:
        return result
    values, places = (None, result) if isinstance(result, torch.Tensor) else result
    dim = -1 if dim is None else dim
    inner = places if places.dim() == first.dim() else places.unsqueeze(dim)
    found = first.detach().gather(dim, inner).reshape(places.shape)
    named = torch.zeros_like(first, dtype=torch.bool).scatter(dim, inner, True).sum()
    return values, found, named
