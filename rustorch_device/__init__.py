"""A PyTorch device whose kernels are written in Rust.

PyTorch calls `_autoload` at the end of `import torch` (entry point `torch.backends`), so that
`device="rustorch"` works with no other import. Importing this package loads the device as well.
"""

# Nothing of torch is imported before `_autoload` exists: importing this package first imports
# torch, which looks `_autoload` up in this module while it is still being executed.
from importlib import import_module

from rustorch_device._load import autoload as _autoload  # noqa: F401 (the entry point)
from rustorch_device._load import load_explicitly as _load_explicitly

__version__ = "0.1.0"
__all__ = ["alias", "explain", "inspect", "load", "load_tensors", "profile", "save", "save_tensors"]


#: Names that need the native half, imported at their first use.
_LAZY = {
    "alias": "rustorch_device._alias",
    "explain": "rustorch_device.explain",
    "profile": "rustorch_device.profiler",
    **dict.fromkeys(("inspect", "load", "load_tensors", "save", "save_tensors"), "rustorch_device.checkpoint"),
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        value = getattr(import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


_load_explicitly()
