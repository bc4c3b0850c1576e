"""What is asked of an op of `op_db`, in one dtype. A check raises where rustorch differs."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.testing._internal.common_utils import noncontiguous_like
from torch.utils._pytree import tree_flatten, tree_map

from conformance.compare import Different, Outcome, assert_same, assert_same_outcome, compare, draws
from conformance.inputs import DEVICE, Mover, evenly

#: Memory is handed out as it is: there are no values to compare.
UNINITIALISED = {"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"}

Arguments = tuple[Any, tuple[Any, ...], dict[str, Any]]


def samples(op: Any, dtype: torch.dtype, limit: int, requires_grad: bool = False) -> list[Any]:
    torch.manual_seed(0)
    return evenly(list(op.sample_inputs("cpu", dtype, requires_grad=requires_grad)), limit)


def arguments_of(sample: Any) -> Arguments:
    return sample.input, tuple(sample.args), dict(sample.kwargs)


def caller(function: Callable[..., Any]) -> Callable[[Arguments], Any]:
    return lambda arguments: function(arguments[0], *arguments[1], **arguments[2])


def has_values(op: Any) -> bool:
    return op.name not in UNINITIALISED


def forward(op: Any, dtype: torch.dtype, limit: int) -> None:
    """The samples as they are."""
    for sample in samples(op, dtype, limit):
        compare(caller(op), arguments_of(sample), values=has_values(op))


def _expanded(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[:1].expand_as(tensor) if tensor.dim() > 0 and tensor.size(0) > 1 else tensor


def _first_number(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.flatten()[0].clone() if tensor.numel() else tensor


def _without_rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[:0] if tensor.dim() > 0 else tensor


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "noncontiguous": noncontiguous_like,
    "expanded": _expanded,
    "0-dim": _first_number,
    "empty": _without_rows,
}


def layouts(op: Any, dtype: torch.dtype, limit: int) -> None:
    """The samples' tensors stepped, expanded, as single numbers and without rows."""
    for sample in samples(op, dtype, max(2, limit // 3)):
        for name, change in LAYOUTS.items():
            changed = tree_map(
                lambda value, change=change: change(value) if isinstance(value, torch.Tensor) else value,
                arguments_of(sample),
            )
            try:
                compare(caller(op), changed, values=has_values(op))
            except AssertionError as error:
                raise Different(f"{name}: {error}") from None


def in_place(op: Any, dtype: torch.dtype, limit: int) -> None:
    """The in-place variant: the result, and what it does to its first argument."""

    def call(arguments: Arguments) -> Any:
        first = arguments[0]
        result = op.inplace_variant(first, *arguments[1], **arguments[2])
        if isinstance(first, torch.Tensor) and isinstance(result, torch.Tensor) and result is not first:
            raise Different("the in-place variant gave another tensor than its argument")
        return first

    for sample in samples(op, dtype, limit):
        arguments = arguments_of(sample)
        compare(call, arguments)
        if isinstance(arguments[0], torch.Tensor):
            compare(call, (noncontiguous_like(arguments[0]), *arguments[1:]))


def _outputs_like(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    return tree_map(lambda item: change(item) if isinstance(item, torch.Tensor) else item, value)


OUTPUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "of the right shape": lambda tensor: torch.full_like(tensor, 1, memory_format=torch.contiguous_format),
    "stepped": lambda tensor: noncontiguous_like(torch.full_like(tensor, 1)),
    "resized": lambda tensor: torch.empty(0, dtype=tensor.dtype),
    "of another dtype": lambda tensor: torch.empty(
        tensor.shape, dtype=torch.float64 if tensor.dtype != torch.float64 else torch.int32
    ),
}


def out(op: Any, dtype: torch.dtype, limit: int) -> None:
    """`out=`: written, resized, refused as on the CPU."""

    def call(arguments: Any) -> Any:
        (first, args, kwargs), target = arguments
        result = op(first, *args, **kwargs, out=target)
        return result, target

    for sample in samples(op, dtype, max(2, limit // 2)):
        arguments = arguments_of(sample)
        plain = Outcome.of(lambda arguments=arguments: caller(op)(Mover("cpu")(arguments)))
        if plain.error is not None:
            continue
        tensors = tree_flatten(plain.value)[0]
        if not tensors or not all(isinstance(item, torch.Tensor) for item in tensors):
            continue
        for name, change in OUTPUTS.items():
            try:
                compare(call, (arguments, _outputs_like(plain.value, change)), values=has_values(op))
            except AssertionError as error:
                raise Different(f"out {name}: {error}") from None


def errors(op: Any, dtype: torch.dtype, limit: int) -> None:
    """What the CPU refuses is refused with the same exception, and nothing else is."""
    torch.manual_seed(0)
    for error_input in op.error_inputs("cpu"):
        compare(caller(op), arguments_of(error_input.sample_input))


def _differentiable(tree: Any) -> list[torch.Tensor]:
    return [item for item in tree_flatten(tree)[0] if isinstance(item, torch.Tensor) and item.requires_grad]


def _gradients(op: Any, sample: Any, device: str, seeds: list[torch.Tensor] | None) -> tuple[Any, list[torch.Tensor]]:
    arguments = Mover(device)(arguments_of(sample))
    results = _differentiable(sample.output_process_fn_grad(caller(op)(arguments)))
    leaves = _differentiable(arguments)
    if seeds is None:
        generator = torch.Generator().manual_seed(0)
        # Drawn in f64, so that every dtype has the seeds of its rounding.
        seeds = [
            torch.randn(result.shape, generator=generator, dtype=torch.promote_types(result.dtype, torch.float64)).to(
                result.dtype
            )
            for result in results
        ]
    given = Mover(device)(seeds)
    if not results or not leaves:
        return None, seeds
    return torch.autograd.grad(results, leaves, given, allow_unused=True), seeds


def backward(op: Any, dtype: torch.dtype, limit: int) -> None:
    """Gradients as the CPU's."""
    for sample in samples(op, dtype, limit, requires_grad=True):
        seeds: list[torch.Tensor] = []

        def on_cpu(_: Any = None, sample: Any = sample, seeds: list[torch.Tensor] = seeds) -> Any:
            gradients, drawn = _gradients(op, sample, "cpu", None)
            seeds[:] = drawn
            return gradients

        expected = Outcome.of(on_cpu)
        actual = Outcome.of(lambda sample=sample, seeds=seeds: _gradients(op, sample, DEVICE, seeds)[0], DEVICE)
        try:
            assert_same_outcome(actual, expected, has_values(op))
        except AssertionError:
            if expected.error is not None or actual.error is not None or not draws(on_cpu, (), expected):
                raise
            assert_same(actual.value, expected.value, values=False)


def finite_differences(op: Any, dtype: torch.dtype, limit: int) -> None:
    """Gradients in f64 agree with finite differences, where the CPU's own do."""
    for sample in samples(op, dtype, max(2, limit // 3), requires_grad=True):
        if not all(leaf.numel() <= 1000 for leaf in _differentiable(arguments_of(sample))):
            continue
        problem = _gradcheck(op, sample, DEVICE)
        if problem is not None and _gradcheck(op, sample, "cpu") is None:
            raise Different(problem)


def _gradcheck(op: Any, sample: Any, device: str) -> str | None:
    first, args, kwargs = Mover(device)(arguments_of(sample))
    leaves = _differentiable((first, args, kwargs))
    if not leaves:
        return None

    def function(*_: torch.Tensor) -> Any:
        torch.manual_seed(0)
        results = sample.output_process_fn_grad(op.gradcheck_wrapper(op.get_op(), first, *args, **kwargs))
        return tuple(_differentiable(results))

    try:
        torch.autograd.gradcheck(
            function, leaves, fast_mode=True, nondet_tol=op.gradcheck_nondet_tol, check_undefined_grad=False
        )
    except Exception as error:
        return str(error)
    return None


def applicable(op: Any) -> Iterator[tuple[str, frozenset[torch.dtype]]]:
    """The checks that apply to an op, and the dtypes of each."""
    # `supported_backward_dtypes` asks the machine, and includes forward dtypes only.
    dtypes = frozenset(op.supported_dtypes("cpu"))
    differentiable = frozenset(op.supported_backward_dtypes("cpu")) if op.supports_autograd else frozenset()
    yield "forward", dtypes
    yield "layouts", dtypes
    if op.inplace_variant is not None:
        yield "in_place", dtypes
    if op.supports_out:
        yield "out", dtypes
    if op.error_inputs_func is not None:
        yield "errors", frozenset([torch.float32])
    if op.supports_autograd:
        yield "backward", differentiable
        yield "finite_differences", differentiable & {torch.float64}


CHECKS: dict[str, Callable[[Any, torch.dtype, int], None]] = {
    "forward": forward,
    "layouts": layouts,
    "in_place": in_place,
    "out": out,
    "errors": errors,
    "backward": backward,
    "finite_differences": finite_differences,
}
