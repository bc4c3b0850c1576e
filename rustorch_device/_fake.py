"""What PyTorch's tracing cannot know of the device: the memory order of a convolution's results, and that it samples
volumes by bicubic interpolation.

PyTorch asks the backend of a convolution for the order, and knows of none for other people's devices. Of devices that
sample volumes so, its shape functions list its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._prims_common import suggest_memory_format
from torch._subclasses import fake_impls
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

aten = torch.ops.aten

CONVOLUTIONS = (aten.convolution.default, aten._convolution.default, aten.convolution_backward.default)
#: Samplers of volumes, with the places of their interpolation among the arguments.
SAMPLERS = {aten.grid_sampler_3d.default: 2, aten.grid_sampler_3d_backward.default: 3}
BILINEAR, BICUBIC = 0, 2


def _layout(input: FakeTensor, weight: FakeTensor) -> torch.memory_format:
    """As `layout_of` in csrc/aten/conv.cpp: channels last, where the input or the weight is."""
    layout = suggest_memory_format(input)
    return suggest_memory_format(weight) if layout == torch.contiguous_format else layout


def _sampled(fake_mode: FakeTensorMode, func: Any, *args: Any, **kwargs: Any) -> Any:
    """What a sampler of volumes gives has the same shape by whatever interpolation."""
    at = SAMPLERS[func]
    if args[0].fake_device.type != "rustorch" or args[at] != BICUBIC:
        return NotImplemented
    with fake_mode:
        return func(*args[:at], BILINEAR, *args[at + 1 :], **kwargs)


def register() -> None:
    """Lets the device's convolutions be traced with the strides that they give, and its samplers at all, once."""
    theirs = fake_impls.op_implementations_dict[aten.convolution.default]
    if theirs.__module__ == __name__:
        return

    def convolution(fake_mode: FakeTensorMode, func: Any, *args: Any, **kwargs: Any) -> Any:
        results = theirs(fake_mode, func, *args, **kwargs)
        first = 1 if func is aten.convolution_backward.default else 0
        input, weight = (
            args[at] if at < len(args) else kwargs[name] for at, name in ((first, "input"), (first + 1, "weight"))
        )
        if input.fake_device.type != "rustorch" or input.dim() not in (4, 5) or input.dim() != weight.dim():
            return results
        with fake_mode:
            layout = _layout(input, weight)
            if first == 0:
                return results.to(memory_format=layout)
            images = [part if part is None else part.to(memory_format=layout) for part in results[:2]]
            return (*images, results[2])

    for op in CONVOLUTIONS:
        fake_impls.op_implementations_dict[op] = convolution
    fake_impls.op_implementations_dict.update(dict.fromkeys(SAMPLERS, _sampled))
