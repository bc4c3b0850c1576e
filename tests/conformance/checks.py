"""What is asked of an op of `op_db` or of a foreach database, in one dtype. A check raises where rustorch differs."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.testing._internal.common_utils import noncontiguous_like
from torch.utils._pytree import tree_flatten, tree_map

from conformance import harder
from conformance.compare import Different, Outcome, assert_same, assert_same_outcome, compare
from conformance.inputs import DEVICE, DTYPES, Mover, evenly, expect_dense, where_asked
from conformance.places import ONE_OF_EQUAL, elements_of, gradients_of
from conformance.precision import PLAIN, precision_of
from conformance.relative import compare_relatively, compare_roundings
from conformance.seeds import differentiable, seeds_like
from conformance.strides import compare_strides

#: Memory is handed out as it is: there are no values to compare.
UNINITIALISED = {"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"}

#: Samples among which `harder` looks for one that it can change.
MOST_TRIED = 40

Arguments = tuple[Any, tuple[Any, ...], dict[str, Any]]


def samples(op: Any, dtype: torch.dtype, limit: int, requires_grad: bool = False) -> list[Any]:
    torch.manual_seed(0)
    return evenly(list(op.sample_inputs("cpu", dtype, requires_grad=requires_grad)), limit)


def arguments_of(sample: Any) -> Arguments:
    return sample.input, tuple(sample.args), dict(sample.kwargs)


def caller(function: Any) -> Callable[[Arguments], Any]:
    return lambda arguments: elements_of(function, arguments, _called(function, arguments))


def _called(function: Any, arguments: Arguments) -> Any:
    first, args, kwargs = arguments
    args, kwargs = where_asked(function, args, kwargs)
    return function(first, *args, **kwargs)


def has_values(op: Any) -> bool:
    return op.name not in UNINITIALISED


def forward(op: Any, dtype: torch.dtype, limit: int) -> None:
    """The samples as they are."""
    for sample in samples(op, dtype, limit):
        compare(caller(op), arguments_of(sample), values=has_values(op), precision=precision_of(op))


def _expanded(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[:1].expand_as(tensor) if tensor.dim() > 0 and tensor.size(0) > 1 else tensor


def _first_number(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.flatten()[0].clone() if tensor.numel() else tensor


def _without_rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[:0] if tensor.dim() > 0 else tensor


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "stepped": noncontiguous_like,
    "expanded": _expanded,
    "0-dim": _first_number,
    "empty": _without_rows,
}


def written_of(call: Callable[[Arguments], Any], arguments: Arguments) -> frozenset[int]:
    """The tensors, by id, that the call changes on the CPU (the running statistics of a norm)."""
    copies = Mover("cpu")(arguments)
    Outcome.of(lambda: call(copies))
    pairs = zip(tree_flatten(arguments)[0], tree_flatten(copies)[0], strict=True)
    tensors = [(before, after) for before, after in pairs if isinstance(before, torch.Tensor)]
    return frozenset(
        id(before)
        for before, after in tensors
        if before.shape != after.shape or not torch.allclose(before, after, rtol=0, atol=0, equal_nan=True)
    )


#: PyTorch's own CPU kernel dies of these: there is nothing to compare with.
FATAL_ON_CPU = {
    ("_chunk_cat", "0-dim"),
    ("linalg.eigvals", "special"),
    ("_segment_reduce", "shapes"),
    ("torch.ops.aten._scaled_dot_product_flash_attention_for_cpu", "shapes"),
    # It writes where a wrong index leads it, and what comes after dies.
    ("max_pool2d_with_indices_backward", "indices"),
}


def layouts(op: Any, dtype: torch.dtype, limit: int) -> None:
    """The samples' tensors stepped, expanded, as single numbers and without rows.

    What an op writes is not expanded: numbers written to one place leave the last one written.
    """
    for sample in samples(op, dtype, max(2, limit // 3)):
        arguments = arguments_of(sample)
        expect_dense(arguments)
        written = written_of(caller(op), arguments)
        for name, change in LAYOUTS.items():
            if (op.name, name) in FATAL_ON_CPU:
                continue
            keep = written if name == "expanded" else frozenset()

            def changed_of(value: Any, change: Any = change, keep: frozenset[int] = keep) -> Any:
                return change(value) if isinstance(value, torch.Tensor) and id(value) not in keep else value

            changed = tree_map(changed_of, arguments)
            try:
                compare(caller(op), changed, values=has_values(op), precision=precision_of(op))
            except AssertionError as error:
                # Some CPU kernels read an expanded input as if it were dense.
                if name == "expanded" and _does_as_dense(op, changed):
                    continue
                raise Different(f"{name}: {error}") from None


def _does_as_dense(op: Any, arguments: Arguments) -> bool:
    """Whether rustorch gives what the CPU gives of dense copies."""
    dense = tree_map(lambda value: value.contiguous() if isinstance(value, torch.Tensor) else value, arguments)
    expected = Outcome.of(lambda: caller(op)(Mover("cpu")(dense)))
    return expected.error is None and _holds(caller(op), arguments, expected.value)


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
        compare(call, arguments, precision=precision_of(op))
        if isinstance(arguments[0], torch.Tensor):
            compare(call, (noncontiguous_like(arguments[0]), *arguments[1:]), precision=precision_of(op))


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
        sample, target = arguments
        result = op(sample[0], *sample[1], **sample[2], out=target)
        return elements_of(op, sample, result), elements_of(op, sample, target)

    for sample in samples(op, dtype, max(2, limit // 2)):
        arguments = arguments_of(sample)
        plain = Outcome.of(lambda arguments=arguments: _called(op, Mover("cpu")(arguments)))
        if plain.error is not None:
            continue
        tensors = tree_flatten(plain.value)[0]
        if not tensors or not all(isinstance(item, torch.Tensor) for item in tensors):
            continue
        # A result is as exact as its own dtype, whatever it is written to.
        least = max(PLAIN.get(item.dtype, (0.0, 0.0)) for item in tensors)
        precision = replace(precision_of(op), least=least)
        for name, change in OUTPUTS.items():
            both = (arguments, _outputs_like(plain.value, change))
            try:
                compare(call, both, values=has_values(op), precision=precision)
            except AssertionError as error:
                # Some CPU kernels write a stepped output as if it were dense, or not at all.
                holds = elements_of(op, arguments, plain.value)
                if name == "stepped" and _holds(lambda both: call(both)[1], both, holds):
                    continue
                raise Different(f"out {name}: {error}") from None


def _holds(call: Callable[[Any], Any], arguments: Any, expected: Any) -> bool:
    """Whether rustorch gives what the CPU gave another way."""
    actual = Outcome.of(lambda: call(Mover(DEVICE)(arguments)), DEVICE)
    if actual.error is not None:
        return False
    try:
        assert_same(actual.value, expected)
    except AssertionError:
        return False
    return True


def errors(op: Any, dtype: torch.dtype, limit: int) -> None:
    """What the CPU refuses is refused with the same exception, and nothing else is."""
    torch.manual_seed(0)
    for error_input in op.error_inputs("cpu"):
        compare(caller(op), arguments_of(error_input.sample_input))


def other_dtypes(op: Any, dtype: torch.dtype, limit: int) -> None:
    """A dtype that the CPU refuses is computed, or refused by the same exception before anything is written."""
    known = op.supported_dtypes("cpu")
    source = torch.float32 if torch.float32 in known else min(known, key=str)

    def cast(value: Any) -> Any:
        return value.to(dtype) if isinstance(value, torch.Tensor) and value.dtype == source else value

    calls = [caller(op)]
    if op.inplace_variant is not None:
        calls.append(lambda arguments: op.inplace_variant(arguments[0], *arguments[1], **arguments[2]))
    for sample in samples(op, source, 2):
        arguments = tree_map(cast, arguments_of(sample))
        for call in calls:
            theirs, mine = Mover("cpu")(arguments), Mover(DEVICE)(arguments)
            expected = Outcome.of(lambda call=call, theirs=theirs: call(theirs))
            actual = Outcome.of(lambda call=call, mine=mine: call(mine), DEVICE)
            if expected.error is None or actual.error is None:
                continue
            assert_same_outcome(actual, expected)
            if any(word in str(actual.error) for word in ("panicked", "INTERNAL ASSERT")):
                raise Different(f"an error inside of rustorch: {actual.error}")
            try:
                assert_same(mine, arguments)
            except AssertionError:
                # Some CPU kernels write before they refuse; on the fallback they do so here.
                assert_same(mine, theirs)


def backward(op: Any, dtype: torch.dtype, limit: int) -> None:
    """Gradients as the CPU's."""
    for sample in samples(op, dtype, limit, requires_grad=True):
        call, given = gradients_from(op, arguments_of(sample), sample.output_process_fn_grad)
        compare(call, given, values=has_values(op), precision=precision_of(op))


def gradients_from(op: Any, arguments: Arguments, process: Callable[[Any], Any]) -> tuple[Callable[[Any], Any], Any]:
    """What gives the gradients of an op, and what it takes."""

    def results_of(arguments: Arguments) -> Any:
        return differentiable(process(caller(op)(arguments)))

    def gradients(given: Any) -> Any:
        arguments, seeds = given
        results, leaves = results_of(arguments), differentiable(arguments)
        if not results or not leaves:
            return None
        gradients = torch.autograd.grad(results, leaves, seeds, allow_unused=True)
        return gradients_of(op, arguments, gradients)

    # Among the arguments, so that f64 starts from the seeds as the dtype has them.
    results = Outcome.of(lambda: results_of(Mover("cpu")(arguments)))
    return gradients, (arguments, seeds_like(results.value or []))


def every_sample(op: Any, dtype: torch.dtype) -> list[Arguments]:
    """At least one of each kind: those of more elements than `harder` takes are left out there."""
    return [arguments_of(sample) for sample in samples(op, dtype, MOST_TRIED)]


def scaled(op: Any, dtype: torch.dtype, limit: int) -> None:
    """Small elements beside large ones, each as near as its own size asks."""
    for arguments in harder.scaled(caller(op), every_sample(op, dtype)):
        if has_values(op):
            compare_relatively(caller(op), arguments, precision_of(op))


def special(op: Any, dtype: torch.dtype, limit: int) -> None:
    """NaN, infinities and both zeros among the elements: which of them come out, and with which sign."""
    zeros = has_values(op) and op.name not in ONE_OF_EQUAL
    if (op.name, "special") in FATAL_ON_CPU:
        return
    for name, arguments in harder.special(caller(op), every_sample(op, dtype)):
        try:
            compare(caller(op), arguments, values=has_values(op), zeros=zeros, precision=precision_of(op))
        except AssertionError as error:
            raise Different(f"{name}: {error}") from None


def sizes(op: Any, dtype: torch.dtype, limit: int) -> None:
    """Whole vectors and a tail, and more than one thread's share; at the first size, the gradients too."""
    is_differentiable = op.supports_autograd and dtype in op.supported_backward_dtypes("cpu")
    for count, arguments in harder.long(caller(op), every_sample(op, dtype)):
        try:
            compare(caller(op), arguments, values=has_values(op), precision=precision_of(op))
            if has_values(op):
                compare_roundings(caller(op), arguments)
            if is_differentiable and count == harder.SIZES[0]:
                leaves = tree_map(harder.requiring_grad, arguments)
                call, given = gradients_from(op, leaves, lambda results: results)
                compare(call, given, values=has_values(op), precision=precision_of(op))
        except AssertionError as error:
            raise Different(f"{count} elements: {error}") from None


def indices(op: Any, dtype: torch.dtype, limit: int) -> None:
    """An index that the CPU refuses, as it is one too large for a size there is, is refused by the same exception."""
    if (op.name, "indices") not in FATAL_ON_CPU:
        _refuse(op, harder.beyond(caller(op), every_sample(op, dtype)))


def shapes(op: Any, dtype: torch.dtype, limit: int) -> None:
    """A tensor that is one short for the others, or for what is asked of it, is refused by the same exception."""
    if (op.name, "shapes") not in FATAL_ON_CPU:
        _refuse(op, harder.misfits(caller(op), every_sample(op, dtype)))


#: PyTorch's CPU raises IndexError or RuntimeError of the same index by the dimension and the shape.
REFUSED_EITHER_WAY = {"index_add", "index_select"}


def _refuse(op: Any, refused: Iterator[tuple[Arguments, Outcome]]) -> None:
    for arguments, refusal in refused:
        actual = Outcome.of(lambda arguments=arguments: caller(op)(Mover(DEVICE)(arguments)), DEVICE)
        if not (op.name in REFUSED_EITHER_WAY and isinstance(actual.error, IndexError | RuntimeError)):
            assert_same_outcome(actual, refusal)


def finite_differences(op: Any, dtype: torch.dtype, limit: int) -> None:
    """Gradients in f64 agree with finite differences, where the CPU's own do."""
    for sample in samples(op, dtype, max(2, limit // 3), requires_grad=True):
        if not all(leaf.numel() <= 1000 for leaf in differentiable(arguments_of(sample))):
            continue
        problem = _gradcheck(op, sample, DEVICE)
        if problem is not None and _gradcheck(op, sample, "cpu") is None:
            raise Different(problem)


def _gradcheck(op: Any, sample: Any, device: str) -> str | None:
    first, args, kwargs = Mover(device)(arguments_of(sample))
    leaves = differentiable((first, args, kwargs))
    if not leaves:
        return None

    def call(first: Any, *args: Any, **kwargs: Any) -> Any:
        return _called(op, (first, args, kwargs))

    def function(*_: torch.Tensor) -> Any:
        torch.manual_seed(0)
        results = sample.output_process_fn_grad(op.gradcheck_wrapper(call, first, *args, **kwargs))
        return tuple(differentiable(results))

    try:
        torch.autograd.gradcheck(
            function, leaves, fast_mode=True, nondet_tol=op.gradcheck_nondet_tol, check_undefined_grad=False
        )
    except Exception as error:
        return str(error)
    return None


def strides(op: Any, dtype: torch.dtype, limit: int) -> None:
    """Results lie in memory as the CPU's, whatever the layout of the arguments."""
    for sample in samples(op, dtype, limit):
        compare_strides(caller(op), arguments_of(sample))
    for arguments in images(op, dtype):
        compare_strides(caller(op), arguments)


def images(op: Any, dtype: torch.dtype) -> Iterator[Arguments]:
    """Batches of images for pointwise ops, whose samples have two dimensions at most."""
    from torch.testing._internal.opinfo.core import BinaryUfuncInfo, UnaryUfuncInfo

    torch.manual_seed(0)
    domain = {"low": 0.1, "high": 0.9} if dtype.is_floating_point else {}
    image = torch.testing.make_tensor((2, 4, 3, 5), device="cpu", dtype=dtype, **domain)
    if isinstance(op, UnaryUfuncInfo):
        yield image, (), op.sample_kwargs("cpu", dtype, image)[0]
    elif isinstance(op, BinaryUfuncInfo):
        for other in (image, image[:, :1], image[:1, :, :1]):
            yield image, (other.clone(),), {}
            yield other.clone(), (image,), {}
        yield image, (2.0,), {}
        yield 2.0, (image,), {}


def applicable(op: Any) -> Iterator[tuple[str, frozenset[torch.dtype]]]:
    """The checks that apply to an op, and the dtypes of each."""
    # `supported_backward_dtypes` asks the machine, and includes forward dtypes only.
    dtypes = frozenset(op.supported_dtypes("cpu"))
    differentiable = frozenset(op.supported_backward_dtypes("cpu")) if op.supports_autograd else frozenset()
    yield "forward", dtypes
    yield "layouts", dtypes
    # Where a result lies does not depend on the dtype: one is asked.
    yield "strides", frozenset([dtype for dtype in DTYPES.values() if dtype in dtypes][:1])
    if op.inplace_variant is not None:
        yield "in_place", dtypes
    if op.supports_out:
        yield "out", dtypes
    if op.error_inputs_func is not None:
        yield "errors", frozenset([torch.float32])
    yield "other_dtypes", frozenset(DTYPES.values()) - dtypes if dtypes else frozenset()
    floats = frozenset(dtype for dtype in dtypes if dtype.is_floating_point)
    yield "scaled", floats | (dtypes & {torch.complex64})
    yield "special", floats
    yield "sizes", dtypes
    yield "indices", dtypes & {torch.float32}
    yield "shapes", dtypes & {torch.float32}
    if op.supports_autograd:
        yield "backward", differentiable
        yield "finite_differences", differentiable & {torch.float64}


CHECKS: dict[str, Callable[[Any, torch.dtype, int], None]] = {
    "forward": forward,
    "layouts": layouts,
    "strides": strides,
    "in_place": in_place,
    "out": out,
    "errors": errors,
    "other_dtypes": other_dtypes,
    "scaled": scaled,
    "special": special,
    "sizes": sizes,
    "indices": indices,
    "shapes": shapes,
    "backward": backward,
    "finite_differences": finite_differences,
}
