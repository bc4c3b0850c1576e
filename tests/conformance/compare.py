"""Runs a call on the CPU and on rustorch: the same values, dtypes and shapes, or the same error."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch.utils._pytree import tree_flatten, tree_map

from conformance.inputs import DEVICE, Mover, expect_dense

#: (rtol, atol) by dtype. Half types round every result, and sums of them in another order differ.
TOLERANCE = {
    torch.float64: (1e-7, 1e-7),
    torch.float32: (1.3e-5, 1e-5),
    torch.float16: (4e-3, 2e-3),
    torch.bfloat16: (3.2e-2, 1.6e-2),
    torch.complex64: (1.3e-5, 1e-5),
    torch.complex128: (1e-7, 1e-7),
    torch.complex32: (4e-3, 2e-3),
}


Precision = tuple[float, float]


def tolerance(dtype: torch.dtype) -> Precision:
    return TOLERANCE.get(dtype, (0.0, 0.0))


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


def assert_same(actual: Any, expected: Any, values: bool = True, precision: Precision = (0.0, 0.0)) -> None:
    """`actual`, of rustorch, is `expected`, of the CPU. Without `values`, all but the numbers.

    Floats are no more exact than `precision`, nor than their dtype.
    """
    mine, shape = tree_flatten(actual)
    theirs, wanted = tree_flatten(expected)
    if len(mine) != len(theirs):
        raise Different(f"{shape} where the CPU gives {wanted}")
    for left, right in zip(mine, theirs, strict=True):
        if isinstance(right, torch.Tensor):
            _assert_same_tensor(left, right, values, precision)
        elif isinstance(right, float | complex | int) and not isinstance(right, bool):
            if values:
                torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5, equal_nan=True)
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
        inexact = theirs.is_floating_point() or theirs.is_complex()
        rtol, atol = max(tolerance(theirs.dtype), precision) if inexact else (0.0, 0.0)
        # Sums whose terms cancel are as exact as their terms.
        if atol:
            sizes = theirs.detach().abs().double().nan_to_num(0, 0, 0)
            atol *= max(1.0, sizes.max().item() if sizes.numel() else 0.0)
        mine, theirs = mine.detach().cpu().resolve_conj().resolve_neg(), theirs.detach()
        try:
            torch.testing.assert_close(mine, theirs, rtol=rtol, atol=atol, equal_nan=True)
        except AssertionError as error:
            raise Different(one_line(error)) from None


def assert_same_outcome(
    actual: Outcome, expected: Outcome, values: bool = True, precision: Precision = (0.0, 0.0)
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
    call: Callable[..., Any], arguments: Any, *, values: bool = True, precision: Precision = (0.0, 0.0)
) -> Outcome:
    """`call(arguments)` does on rustorch what it does on the CPU; gives what it did on the CPU.

    Where the CPU itself gives other numbers for another seed, numbers are not compared: the two
    devices have generators of their own. Where the two round differently, rustorch's numbers must be
    nearer to what the CPU computes in f64.
    """
    expected = Outcome.of(lambda: call(Mover("cpu")(arguments)))
    actual = Outcome.of(lambda: call(Mover(DEVICE)(arguments)), DEVICE)
    try:
        assert_same_outcome(actual, expected, values, precision)
    except AssertionError:
        if expected.error is not None or actual.error is not None:
            raise
        exact = Outcome.of(lambda: call(Mover("cpu")(tree_map(in_f64, arguments))))
        if exact.error is None and is_nearer(actual.value, expected.value, exact.value):
            return expected
        if not draws(call, arguments, expected):
            raise
        assert_same_outcome(actual, expected, values=False)
    return expected


def in_f64(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or not (value.is_floating_point() or value.is_complex()):
        return value
    return value.detach().to(torch.promote_types(value.dtype, torch.float64)).requires_grad_(value.requires_grad)


def is_nearer(actual: Any, expected: Any, exact: Any) -> bool:
    """Whether rustorch's numbers are nearer to what the CPU computes in f64 than the CPU's own are."""
    trees = [tree_flatten(tree)[0] for tree in (actual, expected, exact)]
    if len({len(tree) for tree in trees}) != 1:
        return False
    for mine, theirs, wanted in zip(*trees, strict=True):
        if not isinstance(wanted, torch.Tensor):
            if mine != theirs:
                return False
            continue
        if not (mine.shape == theirs.shape == wanted.shape and mine.dtype == theirs.dtype):
            return False
        mine, theirs, wanted = mine.detach().cpu(), theirs.detach(), wanted.detach()
        dtype = torch.promote_types(wanted.dtype, torch.float64)
        mine, theirs, wanted = mine.to(dtype), theirs.to(dtype), wanted.to(dtype)
        # Where a result overflows on the CPU, rustorch may still have the number.
        same = (mine == theirs) | (mine.isnan() & theirs.isnan())
        if not (same | (mine.isfinite() & wanted.isfinite())).all():
            return False
        known = mine.isfinite() & wanted.isfinite()
        error, allowed = ((value - wanted).abs() for value in (mine, theirs))
        error, allowed = error[known], allowed[known & theirs.isfinite()]
        if error.numel() and not error.max() <= (allowed.max() if allowed.numel() else 0):
            return False
    return True


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
