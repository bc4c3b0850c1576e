"""What is asked of an optimizer of `optim_db`: parameters and state as the CPU's, after several steps."""

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from conformance.compare import compare
from conformance.inputs import Mover, NotDense
from conformance.precision import PLAIN, Precision, Tolerance

STEPS = 4
FORMS = {"for_loop": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def optimizers() -> dict[str, Any]:
    from torch.testing._internal.common_optimizers import optim_db

    return {f"optimizer {info.name}": info for info in optim_db}


def _numbers(state: dict[str, Any]) -> dict[str, Any]:
    """State tensors; single numbers, such as `step`, may be on either device."""
    return {
        name: value.item() if isinstance(value, torch.Tensor) and value.dim() == 0 else value
        for name, value in sorted(state.items())
    }


def _steps(info: Any, settings: dict[str, Any], grouped: bool, arguments: Any) -> Any:
    starts, gradients = arguments
    parameters = [torch.nn.Parameter(start.clone()) for start in starts]
    settings = copy.deepcopy(settings)
    groups: Any = parameters
    if grouped:
        groups = [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.003}]
    optimizer = info.optim_cls(groups, **settings)
    for step in range(STEPS):

        def closure(step: int = step) -> Any:
            for parameter, gradient in zip(parameters, gradients[step], strict=True):
                # Of the loss below, so that a line search has something to find.
                parameter.grad = gradient + parameter.detach()
            pairs = zip(parameters, gradients[step], strict=True)
            return sum(((p.detach() / 2 + g) * p.detach()).sum() for p, g in pairs)

        if info.step_requires_closure:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
    values = [parameter.detach() for parameter in parameters]
    # The history of a line search ends where rounding decides.
    return values, [] if info.step_requires_closure else [_numbers(optimizer.state[p]) for p in parameters]


def _moved_by_rounding(call: Any, starts: list[torch.Tensor], gradients: Any) -> Tolerance:
    """Ten times how far the CPU's own numbers move, when the starts move by a unit in the last place."""
    nudged = [start * (1 + torch.finfo(start.dtype).eps) for start in starts]
    first, second = (call(Mover("cpu")((values, gradients)))[0] for values in (starts, nudged))
    sizes = [max(1.0, value.abs().max().item()) for value in first]
    moves = [(a - b).abs().max().item() / size for a, b, size in zip(first, second, sizes, strict=True)]
    moved = 10 * max(moves) if max(sizes) < 1e6 else 1.0
    return moved, moved


def _check(form: str, info: Any, dtype: torch.dtype, limit: int) -> None:
    if info.only_supports_sparse_grads:
        raise NotDense("the optimizer takes sparse gradients only")
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator, dtype=dtype)
    # Muon takes matrices only.
    shapes = [(5, 3), (1, 7), (2, 9), (4, 4)] if info.name == "Muon" else [(5, 3), (7,), (2, 3, 3), ()]
    starts = [draw(shape) for shape in shapes]
    gradients = [[draw(shape) for shape in shapes] for _ in range(STEPS)]
    # Muon turns gradients in bf16, whatever their dtype, and moves parameters by a thousandth of them.
    least = PLAIN[torch.float32] if info.name == "Muon" else (0.0, 0.0)
    for sample in info.optim_inputs_func("cpu"):
        settings = {**sample.kwargs, **dict.fromkeys(set(info.supported_impls) & {"foreach", "fused"}, False)}
        settings.update(FORMS[form])
        for grouped in (False, True) if info.supports_param_groups else (False,):
            call = partial(_steps, info, settings, grouped)
            if info.step_requires_closure:
                # A line search multiplies what rounding changes.
                least = _moved_by_rounding(call, starts, gradients)
            # What moves by a thousandth, or runs away (maximize), has no number to compare.
            compare(call, (starts, gradients), values=least[0] < 0.01, precision=Precision(least=least))


def applicable(info: Any) -> Iterator[tuple[str, frozenset[torch.dtype]]]:
    dtypes = frozenset({torch.float64} if info.step_requires_closure else {torch.float32, torch.float64})
    yield "for_loop", dtypes
    if "foreach" in info.supported_impls:
        yield "foreach", dtypes
    if "fused" in info.supported_impls and "cpu" in info.supports_fused_on:
        yield "fused", dtypes


CHECKS = {form: partial(_check, form) for form in FORMS}
