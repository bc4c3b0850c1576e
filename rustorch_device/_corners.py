"""Corners of PyTorch that would be silently wrong on the device, or say too little of what to do."""

from collections.abc import Iterable
from functools import wraps
from inspect import signature
from types import ModuleType
from typing import Any

import torch

from rustorch_device import _device_module
from rustorch_device._after_import import after_import


def _save_random_state(checkpoint: ModuleType) -> None:
    """`torch.utils.checkpoint` saves the random state of the devices of a function's arguments. A function that takes
    its tensors otherwise (a closure, a module without inputs) would draw another mask in its second run."""
    of_torch = checkpoint.get_device_states

    @wraps(of_torch)
    def get_device_states(*args: Any) -> tuple[list[int], list[torch.Tensor]]:
        devices, states = of_torch(*args)
        if not devices and checkpoint._infer_device_type(*args) == "rustorch":
            return [0], [_device_module.get_rng_state()]
        return devices, states

    checkpoint.get_device_states = get_device_states  # type: ignore[attr-defined]


def _name_the_alias() -> None:
    """NumPy, pandas, scikit-learn and matplotlib ask a tensor for an array: the refusal names both ways to have one."""
    of_torch = torch.Tensor.__array__

    @wraps(of_torch)
    def __array__(self: Any, dtype: Any = None) -> Any:
        try:
            return of_torch(self, dtype=dtype)
        except TypeError as error:
            if "rustorch:0 device type tensor" not in str(error):
                raise
            raise TypeError(
                f"{error} Or, without a copy: rustorch_device.alias(tensor.detach()).numpy(), "
                "whose memory is the tensor's."
            ) from None

    torch.Tensor.__array__ = __array__  # type: ignore[method-assign, assignment]


#: Scalers that were wished for and that CUDA's absence turned off.
_WISHED = "_rustorch_wished"


def _refuse_idle_scalers() -> None:
    """`GradScaler()` is CUDA's, and scales nothing where CUDA is not: gradients in float16 would vanish silently."""
    scaler = torch.amp.GradScaler
    scale_of_torch = scaler.scale

    def __new__(cls: Any, *args: Any, **kwargs: Any) -> Any:
        made = object.__new__(cls)
        try:
            given = signature(cls.__init__).bind(made, *args, **kwargs).arguments
        except TypeError:
            # `__init__` will say what is wrong with them.
            return made
        setattr(made, _WISHED, given.get("enabled", True))
        return made

    @wraps(scale_of_torch)
    def scale(self: Any, outputs: torch.Tensor | Iterable[torch.Tensor]) -> Any:
        if not self._enabled and getattr(self, _WISHED, False) and self._device == "cuda":
            first = outputs if isinstance(outputs, torch.Tensor) else next(iter(outputs), None)
            if isinstance(first, torch.Tensor) and first.device.type == "rustorch":
                raise RuntimeError(
                    "this GradScaler is CUDA's, and scales nothing: for tensors on rustorch say "
                    "torch.amp.GradScaler('rustorch')."
                )
        return scale_of_torch(self, outputs)  # type: ignore[arg-type]

    scaler.__new__ = __new__  # type: ignore[method-assign, assignment]
    scaler.scale = scale  # type: ignore[method-assign, assignment]


def install() -> None:
    after_import("torch.utils.checkpoint", _save_random_state)
    _name_the_alias()
    _refuse_idle_scalers()
