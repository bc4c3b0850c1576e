"""Random ops that are computed again in the backward pass (`torch.utils.checkpoint`): PyTorch's two
operators that save and restore a generator's state, for the device.

PyTorch keeps the devices that these know in a dictionary of its own, so their entries for "any
backend" are wrapped here. Its other way for devices, `register_graphsafe_rng_device_type`, gives each
op a generator of its own, which does not follow `torch.manual_seed`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._higher_order_ops.utils import registered_hop_fake_fns
from torch._prims import rng_prims

from rustorch_device import _device_module

OPERATORS = (rng_prims.run_and_save_rng_state, rng_prims.run_with_rng_state)


def _run_and_save(op: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[torch.Tensor, Any]:
    state = _device_module.get_rng_state()
    return state, op(*args, **kwargs)


def _run_with(state: torch.Tensor, op: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    before = _device_module.get_rng_state()
    _device_module.set_rng_state(state)
    try:
        return op(*args, **kwargs)
    finally:
        _device_module.set_rng_state(before)


def _register(operator: Any, run: Callable[..., Any], first: int) -> None:
    """Lets `operator` run on the device by `run`; the op's own arguments follow `first` others."""
    operator.py_impl(torch._C.DispatchKey.PrivateUse1)(run)
    any_backend = operator.py_kernels[torch._C.DispatchKey.BackendSelect]

    def choose(*args: Any, **kwargs: Any) -> Any:
        on_device = rng_prims.get_device(args[first:], kwargs) == "rustorch"
        return (run if on_device else any_backend)(*args, **kwargs)

    operator.py_kernels[torch._C.DispatchKey.BackendSelect] = choose
    if operator is rng_prims.run_and_save_rng_state:
        # Its rule for fake tensors goes through the dictionary as well.
        registered_hop_fake_fns[operator] = choose
    operator._dispatch_cache.clear()


def register() -> None:
    """Makes both operators known to the device, once."""
    if torch._C.DispatchKey.PrivateUse1 not in rng_prims.run_with_rng_state.py_kernels:
        _register(rng_prims.run_and_save_rng_state, _run_and_save, 1)
        _register(rng_prims.run_with_rng_state, _run_with, 2)
