"""What is asked of a module of `module_db`: outputs, gradients, buffers and refusals as the CPU's."""

import copy
from collections.abc import Iterator
from typing import Any

import torch

from conformance.compare import compare
from conformance.inputs import evenly
from conformance.precision import precision_of
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
        arguments = (module, tuple(forward.args), dict(forward.kwargs), torch.device("cpu"))
        compare(_step, arguments, precision=precision_of(info))


def train(info: Any, dtype: torch.dtype, limit: int) -> None:
    """A step in training mode."""
    _check(info, dtype, limit, training=True)


def evaluate(info: Any, dtype: torch.dtype, limit: int) -> None:
    """The same in evaluation mode."""
    _check(info, dtype, limit, training=False)


def _refuse(arguments: Any) -> None:
    """Makes a module on the device, and calls it where it could be made."""
    cls, construct, forward, training, dtype, device = arguments
    module = cls(*construct[0], **construct[1]).to(device, dtype).train(training)
    module(*forward[0], **forward[1])


def errors(info: Any, dtype: torch.dtype, limit: int) -> None:
    """What the CPU refuses is refused with the same exception, and nothing else is."""
    for training in (True, False):
        torch.manual_seed(0)
        for error_input in info.module_error_inputs_func(info, "cpu", dtype, requires_grad=True, training=training):
            sample = error_input.module_error_input
            construct, forward = (
                ((), {}) if given is None else (tuple(given.args), dict(given.kwargs))
                for given in (sample.constructor_input, sample.forward_input)
            )
            compare(_refuse, (info.module_cls, construct, forward, training, dtype, torch.device("cpu")))


def applicable(info: Any) -> Iterator[tuple[str, frozenset[torch.dtype]]]:
    dtypes = frozenset({torch.float32, torch.float64}) & frozenset(info.supported_dtypes("cpu"))
    yield "train", dtypes
    yield "eval", dtypes
    if info.module_error_inputs_func is not None:
        yield "errors", dtypes & {torch.float32}


CHECKS = {"train": train, "eval": evaluate, "errors": errors}
