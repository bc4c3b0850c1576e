"""Runs a call on the CPU and on rustorch: the same values, dtypes and shapes, or the same error."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch.testing._internal.common_utils import noncontiguous_like
from torch.utils._pytree import tree_flatten, tree_map

from conformance.inputs import DEVICE, Mover, expect_dense
from conformance.precision import Precision

PLAINLY = Precision()
#: How many tolerances from f64 an element may be, where the CPU's own are.
MOST = 4.0
#: What share of itself an element may be off by at most, where no absolute tolerance is given.
LARGEST = 0.01


class Different(AssertionError):
    """rustorch did not do what the CPU did."""


@dataclass
class Outcome:
    """What a call gave: a value, or the exception that it raised."""

    value: Any = None
    error: Exception | None = None

    @classmethod
    def of(cls, call: Callable[[], Any], device: str = "cpu") -> "Outcome":
        # Ops that make tensors, such as `arange`, make them on the default device.
        with warnings.catch_warnings(), torch.device(device):
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            try:
                return cls(value=call())
            except Exception as error:
                return cls(error=error)


def one_line(value: object, width: int = 200) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= width else text[: width - 1] + "…"


def assert_same(actual: Any, expected: Any, values: bool = True, precision: Precision = PLAINLY) -> None:
    """`actual`, of rustorch, is `expected`, of the CPU. Without `values`, all but the numbers."""
    mine, shape = tree_flatten(actual)
    theirs, wanted = tree_flatten(expected)
    if len(mine) != len(theirs):
        raise Different(f"{shape} where the CPU gives {wanted}")
    for left, right in zip(mine, theirs, strict=True):
        if isinstance(right, torch.Tensor):
            _assert_same_tensor(left, right, values, precision)
        elif isinstance(right, float | complex | int) and not isinstance(right, bool):
            if values:
                # A number was read from a tensor of any float type; f32 is the coarsest that gives one.
                rtol, atol = precision.tolerance(torch.float32)
                torch.testing.assert_close(left, right, rtol=rtol, atol=atol, equal_nan=True)
        elif isinstance(right, torch.device):
            if left.type != DEVICE:
                raise Different(f"device {left}")
        elif values and left != right:
            raise Different(f"{left!r} where the CPU gives {right!r}")


def _assert_same_tensor(mine: Any, theirs: torch.Tensor, values: bool, precision: Precision) -> None:
    if not isinstance(mine, torch.Tensor):
        raise Different(f"{type(mine)} where the CPU gives a tensor")
    if mine.device.type != DEVICE:
        raise Different(f"the result is on {mine.device}")
    if mine.dtype != theirs.dtype or mine.shape != theirs.shape:
        raise Different(
            f"{mine.dtype} of shape {tuple(mine.shape)} where the CPU gives {theirs.dtype} of {tuple(theirs.shape)}"
        )
    if theirs.layout != torch.strided or mine.layout != torch.strided:
        raise Different(f"layouts {mine.layout} and {theirs.layout}")
    if values:
        rtol, atol = precision.tolerance(theirs.dtype)
        mine, theirs = mine.detach().cpu().resolve_conj().resolve_neg(), theirs.detach()
        try:
            torch.testing.assert_close(mine, theirs, rtol=rtol, atol=atol, equal_nan=True)
        except AssertionError as error:
            raise Different(one_line(error)) from None


def assert_same_outcome(
    actual: Outcome, expected: Outcome, values: bool = True, precision: Precision = PLAINLY
) -> None:
    if expected.error is not None:
        if actual.error is None:
            raise Different(f"no error where the CPU raises {type(expected.error).__name__}: {expected.error}")
        if not isinstance(actual.error, type(expected.error)):
            raise Different(
                f"{type(actual.error).__name__} ({one_line(actual.error)}) where the CPU raises "
                f"{type(expected.error).__name__} ({one_line(expected.error)})"
            )
    elif actual.error is not None:
        expect_dense(expected.value)
        raise Different(f"{type(actual.error).__name__}: {one_line(actual.error)}") from actual.error
    else:
        assert_same(actual.value, expected.value, values, precision)


def compare(
    call: Callable[..., Any],
    arguments: Any,
    *,
    values: bool = True,
    zeros: bool = False,
    precision: Precision = PLAINLY,
) -> Outcome:
    """`call(arguments)` does on rustorch what it does on the CPU; gives what it did on the CPU.

    Where the CPU itself gives other numbers for another seed, numbers are not compared: the two
    devices have generators of their own. Where the two round differently, what the CPU computes in f64
    decides (`is_near`).

    Args:
        zeros: also compare the signs of zeros, where those of the CPU are the same in f64.
    """
    expected = Outcome.of(lambda: call(Mover("cpu")(arguments)))
    actual = Outcome.of(lambda: call(Mover(DEVICE)(arguments)), DEVICE)
    try:
        assert_same_outcome(actual, expected, values, precision)
    except AssertionError:
        if expected.error is not None or actual.error is not None:
            raise
        if not (values and _is_near_in_f64(call, arguments, actual.value, expected.value, precision)):
            if not draws(call, arguments, expected):
                raise
            assert_same_outcome(actual, expected, values=False)
            return expected
    if zeros and expected.error is None:
        _assert_same_zeros(call, arguments, actual.value, expected.value)
    return expected


def _zeros(tensor: torch.Tensor, negative: bool) -> torch.Tensor:
    return (tensor == 0) & (tensor.signbit() == negative)


def _assert_same_zeros(call: Callable[..., Any], arguments: Any, actual: Any, expected: Any) -> None:
    """Where the CPU gives f64's numbers, rounded, its zeros have their signs here.

    Such an op selects, moves or rounds once: of others, what terms a zero is a sum of decides, and that is left open.
    So is the sign where the CPU gives another in f64 or of strided operands: which of two zeros is the larger.
    """
    wide = tree_map(in_f64, arguments)
    others = [
        Outcome.of(lambda given=given: call(Mover("cpu")(given)))
        for given in (wide, _strided(arguments), _strided(wide))
    ]
    trees = [tree_flatten(tree)[0] for tree in (actual, expected, *(other.value for other in others))]
    if any(other.error is not None for other in others) or len({len(tree) for tree in trees}) != 1:
        return
    for mine, theirs, *same in zip(*trees, strict=True):
        if not all(isinstance(leaf, torch.Tensor) and leaf.is_floating_point() for leaf in (mine, theirs, *same)):
            continue
        mine, theirs, same = mine.detach().cpu(), theirs.detach(), [leaf.detach() for leaf in same]
        if not torch.allclose(same[0].to(theirs.dtype), theirs, rtol=0, atol=0, equal_nan=True):
            continue
        for negative in (False, True):
            lost = _zeros(mine, not negative) & _zeros(theirs, negative)
            for leaf in same:
                lost &= _zeros(leaf, negative)
            if lost.any():
                signs = ("0", "-0") if negative else ("-0", "0")
                raise Different(f"{signs[0]} where the CPU gives {signs[1]}, at {lost.nonzero()[0].tolist()}")


def _strided(tree: Any) -> Any:
    """Every float tensor with gaps between its elements."""
    return tree_map(
        lambda value: (
            noncontiguous_like(value.detach()).requires_grad_(value.requires_grad)
            if isinstance(value, torch.Tensor) and value.is_floating_point()
            else value
        ),
        tree,
    )


def in_f64(value: Any) -> Any:
    if isinstance(value, torch.nn.Module):
        return copy.deepcopy(value).double()
    if not isinstance(value, torch.Tensor) or not (value.is_floating_point() or value.is_complex()):
        return value
    return value.detach().to(torch.promote_types(value.dtype, torch.float64)).requires_grad_(value.requires_grad)


def magnitude(value: Any) -> Any:
    """A float, or every float of a tensor in f64, without its sign."""
    if isinstance(value, float):
        return abs(value)
    exact = in_f64(value)
    if exact is value or isinstance(value, torch.nn.Module):
        return exact
    return exact.detach().abs().to(exact.dtype).requires_grad_(value.requires_grad)


def _is_near_in_f64(call: Callable[..., Any], arguments: Any, actual: Any, expected: Any, precision: Precision) -> bool:
    exact = Outcome.of(lambda: call(Mover("cpu")(tree_map(in_f64, arguments))))
    if exact.error is not None:
        return False
    trees = [tree_flatten(tree)[0] for tree in (actual, expected, exact.value)]
    if precision.sums:
        # A sum's terms without their signs: what it would be if none of them cancelled.
        terms = Outcome.of(lambda: call(Mover("cpu")(tree_map(magnitude, arguments))))
        trees.append(tree_flatten(terms.value)[0] if terms.error is None else [])
    else:
        trees.append([None] * len(trees[0]))
    if len({len(tree) for tree in trees}) != 1:
        return False
    return all(_leaf_is_near(*leaves, precision) for leaves in zip(*trees, strict=True))


def _leaf_is_near(mine: Any, theirs: Any, exact: Any, terms: Any, precision: Precision) -> bool:
    if not all(isinstance(leaf, torch.Tensor) for leaf in (mine, theirs, exact)):
        return mine is theirs or (not isinstance(theirs, torch.Tensor) and mine == theirs)
    if not (mine.shape == theirs.shape == exact.shape and mine.dtype == theirs.dtype):
        return False
    same_shape = isinstance(terms, torch.Tensor) and terms.shape == exact.shape
    near = is_near(
        mine.detach().cpu(), theirs.detach(), exact.detach(), terms.detach() if same_shape else None, precision
    )
    return bool(near.all())


def is_near(
    mine: torch.Tensor,
    theirs: torch.Tensor,
    exact: torch.Tensor,
    terms: torch.Tensor | None,
    precision: Precision,
    absolutely: bool = True,
) -> torch.Tensor:
    """Which of rustorch's elements are the CPU's, as near to f64 as the CPU's, or f64's within the tolerance.

    Where the CPU's own worst element is some tolerances from f64, so may each of ours be, `MOST` at most: which
    elements rounding hits is luck. Each element's tolerance goes by its own size.

    Args:
        terms: the magnitude of what each element is a sum of, where that may cancel.
        absolutely: with the absolute tolerance. Without it one that the smallest numbers of the dtype need is left.
    """
    rtol, atol = precision.tolerance(theirs.dtype)
    if not absolutely:
        atol = torch.finfo(theirs.dtype).tiny * (torch.finfo(theirs.dtype).eps if theirs.dtype != torch.float64 else 1)
    wide = torch.promote_types(exact.dtype, torch.float64)
    # What f64 gives is rounded to the dtype, and may overflow there.
    rounded = exact.to(theirs.dtype).to(wide)
    equal = (mine == theirs) | (mine.isnan() & theirs.isnan())
    mine, theirs, exact = mine.to(wide), theirs.to(wide), exact.to(wide)
    # Terms that are infinite or NaN without their signs (a mask of -inf) say nothing.
    size = torch.zeros(()) if terms is None else terms.abs().nan_to_num(0, 0, 0)

    def distance(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """In tolerances; infinite where either number is no finite one, unless they are equal."""
        apart = (one - other).abs() / (atol + rtol * torch.maximum(other.abs(), size))
        apart = torch.where(one.isfinite() & other.isfinite(), apart, torch.inf)
        return torch.where(one == other, 0.0, apart).nan_to_num(torch.inf, torch.inf)

    own = distance(theirs, rounded)
    worst = own[own.isfinite()].max() if own.isfinite().any() else torch.zeros(())
    nearer = theirs.isfinite() & ((mine - exact).abs() <= (theirs - exact).abs())
    if absolutely:
        return equal | nearer | (distance(mine, rounded) <= worst.clamp(1.0, MOST)) | (distance(mine, theirs) <= 1)
    allowed = (MOST * worst).clamp(1.0, max(MOST, LARGEST / rtol))
    return equal | nearer | (distance(mine, rounded) <= allowed) | (distance(mine, theirs) <= allowed)


def draws(call: Callable[..., Any], arguments: Any, before: Outcome) -> bool:
    """Whether another seed gives other numbers on the CPU."""
    # The database's wrappers of random ops seed again before each call.
    seed_again = torch.manual_seed
    for offset in range(1, 11):
        with (
            warnings.catch_warnings(),
            mock.patch.object(torch, "manual_seed", lambda seed, offset=offset: seed_again(seed + offset)),
        ):
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            again = call(Mover("cpu")(arguments))
        for left, right in zip(tree_flatten(again)[0], tree_flatten(before.value)[0], strict=True):
            if isinstance(left, torch.Tensor):
                if not torch.allclose(left, right, rtol=0, atol=0, equal_nan=True):
                    return True
            elif left != right and left == left:
                return True
    return False
