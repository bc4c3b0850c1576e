"""What is asked of a module of `module_db`: outputs, gradients and buffers as the CPU's."""

import copy
from collections.abc import Iterator
from typing import Any

import torch

from conformance.compare import compare
from conformance.inputs import evenly
from conformance.seeds import differentiable, seeds_like


def modules() -> dict[str, Any]:
    from torch.testing._internal.common_modules import module_db

    return {f"module {info.name}": info for info in module_db}


def _made(info: Any, dtype: torch.dtype, training: bool) -> Iterator[tuple[torch.nn.Module, Any]]:
    """Modules on the CPU, and the sample that each takes."""
    torch.manual_seed(0)
    for sample in info.module_inputs_func(info, "cpu", dtype, requires_grad=True, training=training):
        construct, forward = sample.constructor_input, sample.forward_input
        module = info.module_cls(*construct.args, **construct.kwargs).to(dtype).train(training)
        if info.is_lazy:
            module(*forward.args, **forward.kwargs)
        yield module, forward


def _step(arguments: Any) -> Any:
    original, args, kwargs, device = arguments
    module = copy.deepcopy(original).to(device)
    torch.manual_seed(0)
    output = module(*args, **kwargs)
    results = differentiable(output)
    leaves = [*module.parameters(), *differentiable((args, kwargs))]
    leaves = [leaf for leaf in leaves if leaf.requires_grad]
    gradients = None
    if results and leaves:
        gradients = torch.autograd.grad(results, leaves, seeds_like(results), allow_unused=True)
    return output, gradients, list(module.buffers())


def _check(info: Any, dtype: torch.dtype, limit: int, training: bool) -> None:
    for module, forward in evenly(list(_made(info, dtype, training)), limit):
        compare(_step, (module, tuple(forward.args), dict(forward.kwargs), torch.device("cpu")))


def train(info: Any, dtype: torch.dtype, limit: int) -> None:
    """A step in training mode."""
    _check(info, dtype, limit, training=True)


def evaluate(info: Any, dtype: torch.dtype, limit: int) -> None:
    """The same in evaluation mode."""
    _check(info, dtype, limit, training=False)


def applicable(info: Any) -> Iterator[tuple[str, frozenset[torch.dtype]]]:
    dtypes = frozenset({torch.float32, torch.float64}) & frozenset(info.supported_dtypes("cpu"))
    yield "train", dtypes
    yield "eval", dtypes


CHECKS = {"train": train, "eval": evaluate}
