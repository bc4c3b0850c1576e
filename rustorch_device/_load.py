"""When and how the device is loaded into PyTorch."""

import os
import sys
import warnings

from rustorch_device import _environment

NAME = "rustorch"
TORCH = "2.15"
#: Commands that load the device themselves, and say what is wrong where that fails.
REPORTS = {"rustorch_device.backend_check", "rustorch_device.collect_env"}
OFF = "Set RUSTORCH_AUTOLOAD=0 to keep rustorch from loading with torch."


class NotLoaded(ImportError):
    """Why the device cannot be loaded, and what to do."""


def autoload() -> None:
    """Loads the device at the end of `import torch`; never lets that import fail."""
    wish = _environment.read("RUSTORCH_AUTOLOAD")
    try:
        if wish == "0" or (wish != "1" and _other_accelerator()):
            return _forget_package()
        load()
    except Exception as error:
        warnings.warn(f"The rustorch device is not available: {error} {OFF}", stacklevel=2)


def _forget_package() -> None:
    """Lets a later `import rustorch_device` run the package anew, and so load the device."""
    package = sys.modules.get("rustorch_device")
    if package is not None and not getattr(package.__spec__, "_initializing", False):
        for name in [name for name in sys.modules if name.partition(".")[0] == "rustorch_device"]:
            del sys.modules[name]


def load_explicitly() -> None:
    """Loads the device because this package is imported; while torch itself is being imported,
    that is for `autoload` to decide."""
    torch = sys.modules.get("torch")
    if torch is not None and getattr(torch.__spec__, "_initializing", False):
        return
    if REPORTS.intersection(sys.orig_argv):
        return
    load()


def load() -> None:
    """Loads the device, once."""
    import torch

    if getattr(torch, NAME, None) is not None:
        return
    _check_version(torch.__version__)
    _environment.settle()
    taken = torch._C._get_privateuse1_backend_name()
    if taken not in ("privateuseone", NAME):
        raise NotLoaded(f"another package's device, '{taken}', holds PyTorch's place for such devices. Uninstall one.")
    try:
        from rustorch_device import _C
    except ImportError as error:
        raise NotLoaded(
            f"its native part does not load ({error}). Reinstall rustorch-device for this torch."
        ) from error

    if taken != NAME:
        torch.utils.rename_privateuse1_backend(NAME)
    from torch._logging._internal import log_registry, register_log

    from rustorch_device import (
        _attention,
        _corners,
        _device_module,
        _distributed,
        _dynamo_interface,
        _inductor,
        _sharing,
        _torch_profiler,
    )

    # PyTorch reads TORCH_LOGS after its devices are loaded.
    if not log_registry.is_log(NAME):
        register_log(NAME, "rustorch_device")
    torch._register_device_module(NAME, _device_module)
    torch.utils.generate_methods_for_privateuse1_backend()
    _sharing.install()
    _attention.install()
    _corners.install()
    _dynamo_interface.install()
    _inductor.install()
    _distributed.install()
    _C.bind_structured_fallbacks()
    _C.claim_autograd_engine()
    os.register_at_fork(after_in_child=_C.claim_autograd_engine)
    _torch_profiler.install()
    if _environment.read("RUSTORCH_PROFILE") == "1":
        from rustorch_device import profiler

        profiler.profile_process()


def _check_version(version: str) -> None:
    if not version.startswith(f"{TORCH}."):
        raise NotLoaded(
            f"it is built for torch {TORCH}, and this is torch {version}. "
            f"Install torch=={TORCH}.* or a rustorch-device for this torch."
        )


def _other_accelerator() -> bool:
    """Whether the machine has an accelerator that other programs expect to be the current one."""
    import torch

    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None:
        return False
    if accelerator.type == "cuda":
        # Counting by NVML leaves CUDA untouched, so that this process can still fork.
        devices = torch.cuda._device_count_nvml()
        return (devices if devices >= 0 else torch.cuda.device_count()) > 0
    return accelerator.type != NAME and torch.accelerator.is_available()
