"""How near each element of a result is by its own size, however large others are: no absolute tolerance hides it."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

from conformance.compare import Different, Outcome, assert_same_outcome, draws, in_f64, is_near, magnitude, one_line
from conformance.inputs import DEVICE, Mover
from conformance.precision import PLAIN, Precision

#: How often the arguments are moved by about their tolerance, to see how far that moves the result.
MOVES = 6


def compare_relatively(call: Callable[..., Any], arguments: Any, precision: Precision) -> None:
    """As `compare`, with tolerances that go by each element's size, and by what its arguments' rounding moves it by.

    A result that cancels (the sine of a multiple of pi) is as exact as its arguments are: the result in f64 of
    arguments that are about a tolerance away says how exact that is.
    """
    expected = Outcome.of(lambda: call(Mover("cpu")(arguments)))
    actual = Outcome.of(lambda: call(Mover(DEVICE)(arguments)), DEVICE)
    assert_same_outcome(actual, expected, values=False)
    if expected.error is not None:
        return
    mine, theirs = tree_flatten(actual.value)[0], tree_flatten(expected.value)[0]
    if all(_is_same(*leaves) for leaves in zip(mine, theirs, strict=True)):
        return
    wide = tree_map(in_f64, arguments)
    exact = Outcome.of(lambda: call(Mover("cpu")(wide)))
    moved = [Outcome.of(lambda by=by: call(Mover("cpu")(_moved(wide, arguments, by)))) for by in range(MOVES)]
    terms = Outcome.of(lambda: call(Mover("cpu")(tree_map(magnitude, arguments)))) if precision.sums else exact
    trees = [tree_flatten(outcome.value)[0] for outcome in (exact, terms, *moved)]
    if {len(tree) for tree in trees} != {len(mine)}:
        return  # The CPU has no f64, or does something else in it: `forward` compares.
    for number, (left, right, *of_f64) in enumerate(zip(mine, theirs, *trees, strict=True)):
        problem = _problem(left, right, *of_f64, precision=precision)
        if problem is not None and not draws(call, arguments, expected):
            raise Different(f"result {number}: {problem}")


def _is_same(mine: Any, theirs: Any) -> bool:
    if not isinstance(theirs, torch.Tensor):
        return mine == theirs or (mine != mine and theirs != theirs)
    return torch.allclose(mine.detach().cpu(), theirs.detach(), rtol=0, atol=0, equal_nan=True)


def _moved(wide: Any, arguments: Any, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)

    def move(tensor: Any, narrow: Any) -> Any:
        if not isinstance(tensor, torch.Tensor) or narrow.dtype not in PLAIN:
            return tensor
        away = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        return tensor * (1 + PLAIN[narrow.dtype][0] * away)

    return tree_map(move, wide, arguments)


def _problem(mine: Any, theirs: Any, exact: Any, terms: Any, *moved: Any, precision: Precision) -> str | None:
    """What is wrong of one result."""
    if not isinstance(theirs, torch.Tensor) or theirs.dtype not in PLAIN:
        return None if _is_same(mine, theirs) else one_line(f"{mine} where the CPU gives {theirs}")
    if any(leaf.shape != theirs.shape for leaf in (exact, terms, *moved)):
        return None
    mine, theirs, exact = mine.detach().cpu(), theirs.detach(), exact.detach()
    rtol, _ = precision.tolerance(theirs.dtype)
    spread = torch.stack([(other.detach() - exact).abs() for other in moved]).amax(0).nan_to_num()
    size = torch.maximum(spread / rtol, terms.detach().abs().nan_to_num())
    near = is_near(mine, theirs, exact, size, precision, absolutely=False)
    if near.all():
        return None
    at = tuple((~near).nonzero()[0].tolist())
    return f"{mine[at].item()} at {at} where the CPU gives {theirs[at].item()}, and f64 {exact[at].item()}"


HALVES = (torch.float16, torch.bfloat16)
#: Elements of a result for which it is counted how many are rounded right.
ENOUGH = 1000


def compare_roundings(call: Callable[..., Any], arguments: Any) -> None:
    """A half type's results are f64's, rounded, about as often as the CPU's are.

    The tolerance of a half type is more than one unit in the last place: a number that was cut instead of rounded is
    within.
    """
    floats = [leaf for leaf in tree_flatten(arguments)[0] if isinstance(leaf, torch.Tensor)]
    if not any(leaf.dtype in HALVES for leaf in floats) or max(leaf.numel() for leaf in floats) < ENOUGH:
        return
    given = (Mover("cpu")(arguments), Mover("cpu")(tree_map(in_f64, arguments)))
    expected, exact = (Outcome.of(lambda these=these: call(these)) for these in given)
    actual = Outcome.of(lambda: call(Mover(DEVICE)(arguments)), DEVICE)
    trees = [tree_flatten(outcome.value)[0] for outcome in (actual, expected, exact)]
    if len({len(tree) for tree in trees}) != 1:
        return
    for mine, theirs, wide in zip(*trees, strict=True):
        if not isinstance(theirs, torch.Tensor) or theirs.dtype not in HALVES:
            continue
        if theirs.numel() < ENOUGH or wide.shape != theirs.shape:
            continue
        right = wide.detach().to(theirs.dtype)

        def wrong(result: torch.Tensor, right: torch.Tensor = right) -> int:
            result = result.detach().cpu()
            return int(((result != right) & ~(result.isnan() & right.isnan())).sum())

        if wrong(mine) > 2 * wrong(theirs) + theirs.numel() / 20 and not draws(call, arguments, expected):
            raise Different(f"{wrong(mine)} of {theirs.numel()} are not rounded right, of the CPU's {wrong(theirs)}")
