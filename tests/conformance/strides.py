"""How results lie in memory: views, `channels_last` models and exporters rely on the CPU's strides."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

from conformance.compare import Different, Outcome
from conformance.inputs import DEVICE, Mover, expect_dense


def _transposed(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.transpose(0, -1).contiguous().transpose(0, -1) if tensor.dim() > 1 else tensor


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return tensor.contiguous(memory_format=formats[tensor.dim()]) if tensor.dim() in formats else tensor


def _few_channels(tensor: torch.Tensor) -> torch.Tensor:
    """Channels last, with dimensions of size 1, for which strides do not say the order."""
    if tensor.dim() not in (4, 5) or 0 in tensor.shape:
        return tensor
    return _channels_last(tensor[:, :1])


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda tensor: tensor.contiguous(),
    "transposed": _transposed,
    "channels last": _channels_last,
    "one channel, last": _few_channels,
}


def compare_strides(call: Callable[[Any], Any], arguments: Any) -> None:
    """Raises where a result's strides are not the CPU's, for any layout of the arguments."""
    expect_dense(arguments)
    for name, change in LAYOUTS.items():

        def changed_of(value: Any, change: Callable[[torch.Tensor], torch.Tensor] = change) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            return change(value.detach()).requires_grad_(value.requires_grad)

        changed = tree_map(changed_of, arguments)
        expected = Outcome.of(lambda changed=changed: call(Mover("cpu")(changed)))
        actual = Outcome.of(lambda changed=changed: call(Mover(DEVICE)(changed)), DEVICE)
        if expected.error is not None or actual.error is not None:
            continue
        pairs = zip(tree_flatten(actual.value)[0], tree_flatten(expected.value)[0], strict=True)
        for number, (mine, theirs) in enumerate(pairs):
            if not isinstance(theirs, torch.Tensor) or theirs.layout != torch.strided or theirs.numel() == 0:
                continue
            if mine.stride() != theirs.stride():
                raise Different(
                    f"{name}: result {number} of shape {tuple(theirs.shape)} has strides {mine.stride()} where the CPU "
                    f"has {theirs.stride()}"
                )
