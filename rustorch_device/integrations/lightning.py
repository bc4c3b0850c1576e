"""Lightning on the device: `Trainer(**rustorch_trainer(precision="bf16-mixed"))`, `Fabric(**rustorch_fabric())`.

Lightning's connectors know "cpu" and "cuda": an accelerator's name alone would train on the CPU, in full precision. So
these functions give the three objects that say it all: the accelerator, the strategy and the precision.
"""

from typing import Any

import torch
from lightning.fabric import plugins as fabric_plugins
from lightning.fabric import strategies as fabric_strategies
from lightning.pytorch import plugins, strategies
from lightning.pytorch.accelerators import Accelerator

import rustorch_device  # noqa: F401  loads the device
from rustorch_device import _device_module

DEVICE = torch.device("rustorch", 0)
MIXED = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


class RustorchAccelerator(Accelerator):
    """The device, for Lightning's Trainer and Fabric. Every process has the same one, `rustorch:0`."""

    def setup_device(self, device: torch.device) -> None:
        if device.type != "rustorch":
            raise ValueError(
                f"Device should be rustorch, got {device} instead: use rustorch_trainer or rustorch_fabric."
            )

    def teardown(self) -> None:
        _device_module.empty_cache()

    @staticmethod
    def parse_devices(devices: int | str | list[int]) -> int:
        return 1 if devices == "auto" else len(devices) if isinstance(devices, list) else int(devices)

    @staticmethod
    def get_parallel_devices(devices: int | str | list[int]) -> list[torch.device]:
        return [DEVICE] * RustorchAccelerator.parse_devices(devices)

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return "rustorch"

    def get_device_stats(self, device: torch.device | str | int) -> dict[str, Any]:
        return dict(_device_module.memory_stats(device))


class _DDP(strategies.DDPStrategy):
    """DistributedDataParallel by gloo. Ranks share the one device, so none has an index of its own."""

    @property
    def root_device(self) -> torch.device:
        return DEVICE

    def determine_ddp_device_ids(self) -> None:
        """As on the CPU: with indices, it would make a stream of CUDA's."""


class _FabricDDP(fabric_strategies.DDPStrategy):
    """The same for Fabric."""

    @property
    def root_device(self) -> torch.device:
        return DEVICE

    def _determine_ddp_device_ids(self) -> None:
        """As on the CPU."""


def _arguments(precision: Any, devices: int, kind: Any, single: Any, ddp: Any, mixed: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"accelerator": RustorchAccelerator(), "devices": devices}
    if devices == 1:
        arguments["strategy"] = single(DEVICE)
    else:
        arguments["strategy"] = ddp(process_group_backend="gloo", **kind)
    if precision in MIXED:
        arguments["plugins"] = [mixed(precision, "rustorch")]
    else:
        arguments["precision"] = precision
    return arguments


def rustorch_trainer(precision: str | int | None = "32-true", devices: int = 1, **ddp: Any) -> dict[str, Any]:
    """The arguments of `lightning.Trainer` that put its work on the device.

    Args:
        precision: as Trainer's.
        devices: how many processes train together; more than one by DistributedDataParallel.
        ddp: arguments of `DDPStrategy`, such as `find_unused_parameters=True`.
    """
    single, mixed = strategies.SingleDeviceStrategy, plugins.MixedPrecision
    return _arguments(precision, devices, ddp, single, _DDP, mixed)


def rustorch_fabric(precision: str | int | None = "32-true", devices: int = 1, **ddp: Any) -> dict[str, Any]:
    """The same for `lightning.Fabric`."""
    single, mixed = fabric_strategies.SingleDeviceStrategy, fabric_plugins.MixedPrecision
    return _arguments(precision, devices, ddp, single, _FabricDDP, mixed)
