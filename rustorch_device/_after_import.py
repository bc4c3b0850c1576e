"""What joins modules of PyTorch that `import torch` leaves out: it is done when, and if, somebody imports them."""

import importlib.abc
import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, name: str, join: Callable[[ModuleType], None]) -> None:
        self.name = name
        self.join = join

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_join(module: ModuleType) -> None:
            execute(module)
            _join(module, self.join)

        spec.loader.exec_module = execute_and_join  # type: ignore[method-assign]
        return spec


def _join(module: ModuleType, join: Callable[[ModuleType], None]) -> None:
    try:
        join(module)
    except Exception as error:
        warnings.warn(f"rustorch does not know this {module.__name__}: {error}", stacklevel=2)


def after_import(name: str, join: Callable[[ModuleType], None]) -> None:
    """Calls `join` with the module of this name: now, where it is imported already, or else right after its import."""
    module = sys.modules.get(name)
    if module is not None:
        _join(module, join)
    else:
        sys.meta_path.insert(0, _Finder(name, join))
