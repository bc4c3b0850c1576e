"""What Dynamo asks of an accelerator: with it, streams, events and properties of the device belong to graphs."""

from types import ModuleType
from typing import Any

import torch

from rustorch_device import _device_module
from rustorch_device._after_import import after_import


def _register(_user_defined: ModuleType) -> None:
    from torch._dynamo import device_interface

    class Worker:
        """What Inductor's processes would ask."""

        set_device = staticmethod(_device_module.set_device)
        current_device = staticmethod(_device_module.current_device)
        get_device_properties = staticmethod(_device_module.get_device_properties)

    class RustorchInterface(device_interface.DeviceInterface):
        """The functions of `torch.rustorch`. It is no GPU: that would be a promise of code for Triton."""

        device = _device_module.device
        Event = _device_module.Event
        Stream = _device_module.Stream

        current_device = staticmethod(_device_module.current_device)
        set_device = staticmethod(_device_module.set_device)
        device_count = staticmethod(_device_module.device_count)
        exchange_device = staticmethod(_device_module._exchange_device)
        maybe_exchange_device = staticmethod(_device_module._maybe_exchange_device)
        is_available = staticmethod(_device_module.is_available)
        stream = staticmethod(_device_module.stream)
        current_stream = staticmethod(_device_module.current_stream)
        set_stream = staticmethod(_device_module.set_stream)
        synchronize = staticmethod(_device_module.synchronize)
        get_device_properties = staticmethod(_device_module.get_device_properties)
        is_bf16_supported = staticmethod(_device_module.is_bf16_supported)
        memory_allocated = staticmethod(_device_module.memory_allocated)

        @staticmethod
        def _set_stream_by_id(stream_id: int, device_index: int, device_type: int) -> None:
            stream = torch.Stream(stream_id=stream_id, device_index=device_index, device_type=device_type)
            _device_module.set_stream(stream)

        @staticmethod
        def get_raw_stream(device_idx: int) -> int:
            return _device_module.current_stream(device_idx).stream_id

        @staticmethod
        def get_compute_capability(device: Any = None) -> str:
            return _device_module.get_device_properties(device).simd_level

    # As Dynamo takes CUDA's: for constants. (`torch.compiler.assume_constant_result` would import all of Dynamo.)
    _device_module.get_device_properties._dynamo_marked_constant = True  # type: ignore[attr-defined]
    RustorchInterface.Worker = Worker  # type: ignore[assignment, misc]
    device_interface.register_interface_for_device("rustorch", RustorchInterface)


def install() -> None:
    """Registers the interface while Dynamo is imported, which takes a second: as soon as
    `register_interface_for_device` can be called. Inductor may have listed the GPUs by then, of which this is none."""
    after_import("torch._dynamo.variables.user_defined", _register)
