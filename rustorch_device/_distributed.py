"""`torch.distributed` on the device: gloo's groups serve it, without a copy."""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

from rustorch_device import _C
from rustorch_device._after_import import after_import

CPU = torch.device("cpu")


def _serve_by_gloo(c10d: ModuleType) -> None:
    """Gives groups of gloo to the device too: PyTorch asks its current accelerator's backend for what names none, such
    as `init_process_group()`, also in a program that never heard of the accelerator."""
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


#: What makes groups of NCCL, in its versions.
NCCL = ("_create_nccl_process_group", "_create_nccl2_process_group", "_create_nccl_lazy_process_group")
NOT_BY_NCCL = (
    'NCCL is for GPUs, and there is none; what is on rustorch talks through gloo: init_process_group("gloo") or '
    'new_group(backend="gloo")'
)


def _say_what_serves(create: Callable[..., Any]) -> Callable[..., Any]:
    """PyTorch's own error says nothing of the device that is there."""

    @functools.wraps(create)
    def create_or_say(*args: Any) -> Any:
        try:
            return create(*args)
        except RuntimeError as error:
            if not torch.cuda.is_available():
                error.args = (f"{error} ({NOT_BY_NCCL})",)
            raise

    return create_or_say


def _join(c10d: ModuleType) -> None:
    if not c10d.is_gloo_available():
        return
    _serve_by_gloo(c10d)
    for name in NCCL:
        if create := getattr(c10d, name, None):
            setattr(c10d, name, _say_what_serves(create))


def install() -> None:
    if torch.distributed.is_available():
        after_import("torch.distributed.distributed_c10d", _join)
