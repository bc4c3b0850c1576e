"""The kernels to call, and calls of them that PyTorch's database of ops makes."""

import contextlib
import io
import os
import pickle
import sys
import warnings
from collections import defaultdict
from itertools import islice
from typing import Any

import torch
import torchvision  # noqa: F401  defines the ops that the device has kernels for
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

import rustorch_device  # noqa: F401  loads the device, whatever RUSTORCH_AUTOLOAD says

#: Samples of an op and dtype that are recorded.
SAMPLES = 8
#: Recorded calls of an overload, and elements of their tensors.
MOST_RECORDED, MOST_ELEMENTS = 6, 4096

Call = tuple[tuple[Any, ...], dict[str, Any]]


def kernels() -> list[Any]:
    """Every overload that is registered for the device."""
    found = []
    for full in sorted(torch._C._dispatch_get_all_op_names()):
        if torch._C._dispatch_has_kernel_for_dispatch_key(full, "PrivateUse1"):
            space, _, name = full.partition("::")
            name, _, overload = name.partition(".")
            found.append(getattr(getattr(getattr(torch.ops, space), name), overload or "default"))
    return found


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, list[Call]] = defaultdict(list)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        calls = self.calls[str(function)]
        tensors = [item for item in tree_flatten((args, kwargs))[0] if isinstance(item, torch.Tensor)]
        if len(calls) < MOST_RECORDED and all(tensor.numel() <= MOST_ELEMENTS for tensor in tensors):
            # There are tensors without values to keep.
            with contextlib.suppress(RuntimeError, NotImplementedError):
                calls.append(tree_map(_to_cpu, (tuple(args), dict(kwargs or {}))))
        return function(*args, **(kwargs or {}))


def _can_be_saved(call: Call) -> bool:
    """Not so the storages, generators and functions that some ops take."""
    try:
        torch.save(call, io.BytesIO())
    except (TypeError, AttributeError, RuntimeError, pickle.PicklingError):
        return False
    return True


class OnDevice:
    """A tensor of the device, kept on the CPU."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor.detach().cpu().clone()


def _to_cpu(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return None if isinstance(value, torch.Generator) else value
    return OnDevice(value) if value.device.type == "rustorch" else value.detach().clone()


def record(path: str) -> None:
    """Writes calls that the database's samples make of the device, forward and backward."""
    from conformance.cases import ops
    from conformance.inputs import DEVICE, Mover
    from conformance.seeds import differentiable

    torch.rustorch.set_fallback_policy("error")
    warnings.simplefilter("ignore")
    recorder = _Recorder()
    refused = 0
    for op in ops().values():
        if not hasattr(op, "sample_inputs") or not hasattr(op, "dtypes"):
            continue
        for dtype in (torch.float32, torch.int64):
            try:
                grad = dtype == torch.float32 and op.supports_autograd
                for sample in islice(op.sample_inputs("cpu", dtype, requires_grad=grad), SAMPLES):
                    arguments = Mover(DEVICE)((sample.input, tuple(sample.args), dict(sample.kwargs)))
                    with recorder, torch.device(DEVICE):
                        results = differentiable(op(arguments[0], *arguments[1], **arguments[2]))
                        if results and grad:
                            torch.autograd.grad([result.sum() for result in results], differentiable(arguments))
            except Exception:  # The database has samples of dtypes that an op refuses.
                refused += 1
    print(f"recorded calls of {len(recorder.calls)} kernels; {refused} ops and dtypes refuse", file=sys.stderr)
    # Whoever reads the file finds all of it, or none.
    calls = {name: [call for call in calls if _can_be_saved(call)] for name, calls in recorder.calls.items()}
    torch.save(calls, f"{path}.new")
    os.replace(f"{path}.new", path)
