"""Rust kernels in `torch.profiler`: what PyTorch has no place for.

The native half gives each kernel to PyTorch's profiler, as work of the device, with its shapes, bytes and
operations for metadata. PyTorch counts operations and shows shapes for its own ops alone: here they are read
off the metadata of ours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._C._profiler import _ExperimentalConfig
from torch.autograd import profiler, profiler_util


class Profile(profiler.profile):
    """PyTorch's profiler, whose events of Rust kernels have `flops`, `bytes` and `input_shapes`."""

    def __init__(self, *args: Any, experimental_config: Any = None, **kwargs: Any) -> None:
        if experimental_config is None and kwargs.get("use_device") == "rustorch":
            experimental_config = _ExperimentalConfig(expose_kineto_event_metadata=True)
        super().__init__(*args, experimental_config=experimental_config, **kwargs)

    def _parse_kineto_results(self, *args: Any, **kwargs: Any) -> Any:
        events = super()._parse_kineto_results(*args, **kwargs)
        for event in events:
            if event.device_type == torch.autograd.DeviceType.PrivateUse1 and event.metadata:
                event.flops = event.metadata.get("flops", 0)
                event.bytes = event.metadata.get("bytes", 0)
                if self.record_shapes:
                    event.input_shapes = event.metadata.get("Input Dims", [])
        return events


def install() -> None:
    """Puts it in the place of PyTorch's, and has averages sum the bytes."""
    if profiler.profile is Profile:
        return
    profiler.profile = Profile  # type: ignore[misc]
    average = profiler_util.FunctionEventAvg
    add = average.add

    def add_with_bytes(self: Any, other: Any) -> Any:
        self.bytes = getattr(self, "bytes", 0) + getattr(other, "bytes", 0)
        return add(self, other)

    average.add = add_with_bytes  # type: ignore[method-assign]
