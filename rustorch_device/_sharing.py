"""The device's memory in other hands: DLPack consumers, and other processes.

PyTorch has no hook for these; the methods that it asks are wrapped, for rustorch only.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.multiprocessing import reductions
from torch.utils.dlpack import DLDeviceType

from rustorch_device import _C


def _is_ours(holder: Any) -> bool:
    return bool(holder.device.type == "rustorch")


def _whole(storage: torch.UntypedStorage) -> torch.Tensor:
    """The bytes of a storage."""
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def _on_host(storage: torch.UntypedStorage) -> torch.Tensor:
    return _C.alias(_whole(storage))


# DLPack says where memory is, and this is the host's: every consumer takes it.


def _dlpack(of_torch: Callable[..., Any], self: torch.Tensor, **options: Any) -> Any:
    wanted = options.get("dl_device")
    if not _is_ours(self) or (wanted is not None and wanted[0] == DLDeviceType.kDLExtDev):
        if _is_ours(self):
            _C.check_storage(self)
        return of_torch(self, **options)
    # Autograd and lazy conjugates cannot be exported: PyTorch's own method refuses them.
    return of_torch(_C.alias(self.detach(), lasting=True).requires_grad_(self.requires_grad), **options)


def _dlpack_device(of_torch: Callable[..., Any], self: torch.Tensor) -> Any:
    return (DLDeviceType.kDLCPU, 0) if _is_ours(self) else of_torch(self)


# Shared memory: the storage moves into the host's, for all tensors that are views of it.


def _share(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    """Moves a device storage to shared memory; gives that as a CPU storage."""
    host = _on_host(storage)
    if not host.untyped_storage().is_shared():
        host = host.clone().share_memory_()
        _C.move_storage(_whole(storage), host)
    return host.untyped_storage()


def _share_memory(of_torch: Callable[..., Any], self: torch.UntypedStorage, *args: Any, **options: Any) -> Any:
    if not _is_ours(self):
        return of_torch(self, *args, **options)
    if self.nbytes() != 0:
        _share(self)
    return self


def _is_shared(of_torch: Callable[..., Any], self: torch.UntypedStorage) -> bool:
    return bool(_on_host(self).untyped_storage().is_shared() if _is_ours(self) else of_torch(self))


def _rebuild_storage(host: torch.UntypedStorage | None) -> torch.UntypedStorage:
    if host is None:
        return torch.empty(0, device="rustorch").untyped_storage()
    return _C.alias(_whole(host)).untyped_storage()


def _reduce_storage(storage: torch.UntypedStorage) -> Any:
    if not _is_ours(storage):
        return reductions.reduce_storage(storage)
    return _rebuild_storage, (_share(storage) if storage.nbytes() != 0 else None,)


def _wrap(holder: type, name: str, wrapper: Callable[..., Any]) -> None:
    of_torch = getattr(holder, name)

    @functools.wraps(of_torch)
    def method(self: Any, *args: Any, **options: Any) -> Any:
        return wrapper(of_torch, self, *args, **options)

    setattr(holder, name, method)


def install() -> None:
    """Wraps PyTorch's methods, once."""
    _wrap(torch.Tensor, "__dlpack__", _dlpack)
    _wrap(torch.Tensor, "__dlpack_device__", _dlpack_device)
    _wrap(torch.UntypedStorage, "share_memory_", _share_memory)
    _wrap(torch.UntypedStorage, "is_shared", _is_shared)
    reductions.reduction.register(torch.UntypedStorage, _reduce_storage)
