"""The same memory on the other device."""

import torch

from rustorch_device import _C


class _Alias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, tensor: torch.Tensor) -> torch.Tensor:
        return _C.alias(tensor, lasting=True)

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return _Alias.apply(gradient)


def alias(tensor: torch.Tensor) -> torch.Tensor:
    """A CPU tensor as a rustorch tensor over the same memory, or the other way round, uncopied.

    Writing to one shows in the other. Gradients flow through. The two keep separate version
    counters, so autograd does not see a write through the alias. As with `tensor.numpy()`, the memory
    can no longer be resized. Raises TypeError for what is no tensor.
    """
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(
            f"alias: expected a tensor, got {type(tensor).__name__}. torch.as_tensor(..) makes one of an array, over "
            "the same memory."
        )
    if tensor.requires_grad and torch.is_grad_enabled():
        return _Alias.apply(tensor)
    return _C.alias(tensor.detach(), lasting=True)
