"""`torch.distributed` on the device: gloo's groups serve it, without a copy."""

from types import ModuleType
from typing import Any

import torch

from rustorch_device import _C
from rustorch_device._after_import import after_import

CPU = torch.device("cpu")


def _serve_by_gloo(c10d: ModuleType) -> None:
    """Gives groups of gloo to the device too: PyTorch asks its current accelerator's backend for what names none, such
    as `init_process_group()`, also in a program that never heard of the accelerator."""
    if not c10d.is_gloo_available():
        return
    backend = c10d.Backend
    # PyTorch registers its own when somebody asks for it, unless there is one.
    create_group = c10d._create_gloo_process_group

    def create(options: Any, backend_options: Any) -> Any:
        group = create_group(options, backend_options)
        whole = options.process_group
        try:
            whole._get_backend(CPU)
        except RuntimeError:
            # A group for the accelerator alone; the same one serves the CPU.
            whole._register_backend(CPU, c10d.ProcessGroup.BackendType.GLOO, group)
        return group

    devices = [*backend.backend_capability["gloo"], "rustorch"]
    backend.register_backend(
        "gloo", create, extended_api=True, devices=devices, _backend_type=c10d.ProcessGroup.BackendType.GLOO
    )
    _C.bind_collectives()


def install() -> None:
    if torch.distributed.is_available():
        after_import("torch.distributed.distributed_c10d", _serve_by_gloo)
