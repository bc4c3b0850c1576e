"""The database's samples made harder: small numbers beside large, special values, whole vectors and tails, indices.

The samples of the database are small, and their numbers alike: a tail that is lost, a part of a long sum, a small
element that is wrong beside a large one, a NaN or the sign of a zero that is lost do not show in them. These checks
change one sample of an op and dtype, by rules that know no op by name.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map_only

from conformance.compare import Outcome
from conformance.inputs import Mover, evenly, expect_dense

Arguments = tuple[Any, tuple[Any, ...], dict[str, Any]]
Call = Callable[[Arguments], Any]

#: Elements of a sample's tensors, all of them: what is larger is left to smaller samples.
MOST_ELEMENTS = 1 << 14
#: Whole vectors of every width and a tail, one number over: a few vectors, some more, many, and more than one chunk.
SIZES = (67, 131, 4_099, 100_003)
#: The sizes of samples of more than one line; and samples of which each tensor is made shorter.
FEW = 3
#: What lines of a tensor are multiplied by, in turn; the first that leaves the CPU's result finite is taken.
FACTORS = ((1.0, 1e-4, 1e3), (1.0, 1e-4), (1.0, 1e-2))
INFINITY, NAN = float("inf"), float("nan")
#: What is put into tensors, and into which share of the elements.
SPECIAL = {
    "NaN": ((NAN,), 0.1),
    "infinities": ((INFINITY, -INFINITY), 0.1),
    "zeros": ((0.0, -0.0), 0.4),
    "all": ((NAN, INFINITY, -INFINITY, 0.0, -0.0), 0.5),
}


def tensors_of(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def is_inexact(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def requiring_grad(value: Any) -> Any:
    """A float tensor as one whose gradient is asked."""
    return value.detach().requires_grad_() if isinstance(value, torch.Tensor) and is_inexact(value) else value


def on_cpu(call: Call, arguments: Arguments) -> Outcome:
    return Outcome.of(lambda: call(Mover("cpu")(arguments)))


def usable(samples: list[Arguments]) -> list[Arguments]:
    """The samples with dense tensors that are not too large, those with most elements first."""

    def elements(arguments: Arguments) -> int:
        return sum(tensor.numel() for tensor in tensors_of(arguments))

    for arguments in samples:
        expect_dense(arguments)
    found = [arguments for arguments in samples if 0 < elements(arguments) <= MOST_ELEMENTS]
    return sorted(found, key=elements, reverse=True)


def _scaled(tensor: torch.Tensor, factors: tuple[float, ...], dim: int) -> torch.Tensor:
    if not is_inexact(tensor) or tensor.dim() == 0:
        return tensor
    factor = torch.tensor(factors, dtype=torch.float64).repeat(tensor.size(dim))[: tensor.size(dim)]
    return (tensor.detach() * factor.view(-1, *[1] * (tensor.dim() - 1 - dim % tensor.dim()))).to(tensor.dtype)


def scaled(call: Call, samples: list[Arguments]) -> Iterator[Arguments]:
    """The largest sample with small lines beside large ones, along its tensors' first and their last dimension."""
    for arguments in usable(samples)[:1]:
        for dim in (0, -1):
            for factors in FACTORS:
                changed = tree_map_only(
                    torch.Tensor, lambda tensor, factors=factors, dim=dim: _scaled(tensor, factors, dim), arguments
                )
                outcome = on_cpu(call, changed)
                expect_dense(outcome.value)
                if outcome.error is None and all(
                    tensor.isfinite().all() for tensor in tensors_of(outcome.value) if is_inexact(tensor)
                ):
                    yield changed
                    break


def _sprinkled(tensor: torch.Tensor, values: tuple[float, ...], share: float, draw: random.Random) -> torch.Tensor:
    """The tensor with special values among its elements, and by even chances at each of its last two places."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return tensor
    places = [place for place in range(tensor.numel()) if draw.random() < share]
    ends = [end for end in (tensor.numel() - 1, tensor.numel() - 2) if end >= 0 and draw.random() < 0.5]
    places = sorted({*places, *ends}) or [tensor.numel() - 1]
    changed = tensor.detach().clone(memory_format=torch.contiguous_format)
    changed.view(-1)[torch.tensor(places)] = torch.tensor(draw.choices(values, k=len(places)), dtype=tensor.dtype)
    return changed


def _is_pointwise(call: Call, arguments: Arguments) -> bool:
    """Whether every tensor has the first one's shape, and every result too."""
    outcome = on_cpu(call, arguments)
    shapes = {tensor.shape for tensor in (*tensors_of(arguments), *tensors_of(outcome.value))}
    return outcome.error is None and len(shapes) == 1


def special(call: Call, samples: list[Arguments]) -> Iterator[tuple[str, Arguments]]:
    """The largest sample, and one of whole vectors and a tail, with each kind of special values among its numbers.

    All tensors of a pointwise op have them, and the first of others: what an infinite weight of a zero gives goes by
    the order in which an op multiplies.
    """
    chosen = usable(samples)[:1]
    chosen += [arguments for _, arguments in long(call, samples, SIZES[:1])]
    for arguments in chosen:
        first, whole = tensors_of(arguments)[0], _is_pointwise(call, arguments)
        for name, (values, share) in SPECIAL.items():
            draw = random.Random(name)

            def change(
                tensor: torch.Tensor,
                kind: Any = (values, share, draw),
                only: torch.Tensor | None = None if whole else first,
            ) -> torch.Tensor:
                return _sprinkled(tensor, *kind) if only is None or tensor is only else tensor

            yield name, tree_map_only(torch.Tensor, change, arguments)


def _line(tensor: torch.Tensor, first: torch.Tensor, count: int) -> tuple[int, ...] | None:
    return (count,) if tensor.shape == first.shape else None


def _lines(tensor: torch.Tensor, first: torch.Tensor, count: int) -> tuple[int, ...] | None:
    """As many lines as there are."""
    return (*first.shape[:-1], count) if tensor.shape == first.shape and first.dim() > 1 else None


def _every_line(tensor: torch.Tensor, first: torch.Tensor, count: int) -> tuple[int, ...] | None:
    return (count,) if tensor.dim() > 0 else None


#: The shapes that tensors are tried in, by the sample's first one; None: it stays.
SHAPES = (_line, _lines, _every_line)


def _resized(arguments: Arguments, count: int, shape_of: Callable[..., tuple[int, ...] | None]) -> Arguments:
    """The arguments with longer tensors, whose elements lie among their own, and so in the op's domain."""
    first = tensors_of(arguments)[0]
    generator = torch.Generator().manual_seed(count)

    def change(tensor: torch.Tensor) -> torch.Tensor:
        shape = shape_of(tensor, first, count)
        if shape is None or tensor.numel() == 0:
            return tensor
        elements = tensor.detach().reshape(-1)
        left, right = (elements[torch.randint(tensor.numel(), shape, generator=generator)] for _ in range(2))
        if not is_inexact(tensor):
            return left
        # Between two of them, so that few are equal: which of equal elements an op means is left open.
        between = torch.rand(shape, generator=generator, dtype=torch.float64)
        return (left + (right - left) * between).to(tensor.dtype)

    return tree_map_only(torch.Tensor, change, arguments)


def long(call: Call, samples: list[Arguments], sizes: tuple[int, ...] = SIZES) -> Iterator[tuple[int, Arguments]]:
    """A sample with longer lines, of each of the sizes.

    It is one that the CPU takes so, and whose results have not many more elements: of some ops they would be huge.
    """
    found = [arguments for arguments in usable(samples) if tensors_of(arguments)[0].numel() > 1]
    for shape_of in SHAPES:
        for arguments in found:
            changed = _resized(arguments, sizes[0], shape_of)
            if tensors_of(changed)[0] is tensors_of(arguments)[0]:
                continue
            tensors = tensors_of(changed)
            outcome = on_cpu(call, changed)
            results = [] if outcome.error is not None else tensors_of(outcome.value)
            most = max(tensor.numel() for tensor in tensors)
            if results and all(result.numel() <= 8 * most for result in results):
                # Losses that take indices compare each with each.
                takes_indices = is_inexact(tensors[0]) and not all(map(is_inexact, tensors))
                bounded = sizes if shape_of is _line and not takes_indices else sizes[:FEW]
                yield from ((count, _resized(arguments, count, shape_of)) for count in bounded)
                return


def beyond(call: Call, samples: list[Arguments]) -> Iterator[tuple[Arguments, Outcome]]:
    """Samples with one index that the CPU refuses, the smallest such of the sizes there are; and the CPU's refusal."""
    for arguments in usable(samples):
        tensors = tensors_of(arguments)
        sizes = sorted({size for tensor in tensors for size in (*tensor.shape, tensor.numel())})
        for index in tensors:
            if index.dtype not in (torch.int64, torch.int32) or index.numel() == 0:
                continue
            if on_cpu(call, arguments).error is not None:
                break
            for size in (size for size in sizes if size > index.max()):

                def changed_of(tensor: torch.Tensor, index: torch.Tensor = index, size: int = size) -> torch.Tensor:
                    if tensor is not index:
                        return tensor
                    changed = tensor.clone(memory_format=torch.contiguous_format)
                    changed.view(-1)[-1] = size
                    return changed

                changed = tree_map_only(torch.Tensor, changed_of, arguments)
                refusal = on_cpu(call, changed)
                if refusal.error is not None:
                    yield changed, refusal
                    break


def misfits(call: Call, samples: list[Arguments]) -> Iterator[tuple[Arguments, Outcome]]:
    """Samples with one of their tensors shorter by one, where the CPU refuses them so; and its refusals."""
    for arguments in evenly(usable(samples), FEW):
        if on_cpu(call, arguments).error is not None:
            continue
        for tensor, dim in [(each, dim) for each in tensors_of(arguments) for dim in range(each.dim())]:
            if tensor.size(dim) < 2:
                continue
            shorter = tensor.detach().narrow(dim, 1, tensor.size(dim) - 1).contiguous()
            changed = tree_map_only(
                torch.Tensor,
                lambda other, tensor=tensor, shorter=shorter: shorter if other is tensor else other,
                arguments,
            )
            refusal = on_cpu(call, changed)
            if refusal.error is not None:
                yield changed, refusal
