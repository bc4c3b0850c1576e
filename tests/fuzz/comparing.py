"""Whether an arm did what CPU eager did."""

from typing import Any

import torch

from fuzz.calling import Outcome
from fuzz.programs import Program

#: The share of the largest number that a result may be off by, for the float type that rounds most on its way.
SHARES = {"float64": 1e-7, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}
#: How much further from what f64 gives an arm may be than CPU eager is.
FURTHER = 8


def plain(value: torch.Tensor) -> torch.Tensor:
    return value.detach().cpu().resolve_conj().resolve_neg()


def largest(value: torch.Tensor) -> float:
    """The largest of its finite numbers."""
    if not value.is_floating_point() and not value.is_complex():
        return 0.0
    sizes = value.abs().double().nan_to_num(0, 0, 0)
    return sizes.max().item() if sizes.numel() else 0.0


def is_near(actual: torch.Tensor, expected: torch.Tensor, precise: torch.Tensor | None) -> bool:
    """Whether an arm's numbers are about as far from those of f64 as CPU eager's."""
    if precise is None or precise.shape != expected.shape or not expected.is_floating_point():
        return False
    actual, expected, precise = actual.double(), plain(expected).double(), plain(precise).double()
    same = (actual == expected) | (actual.isnan() & expected.isnan())
    finite = actual.isfinite() & expected.isfinite() & precise.isfinite()
    if not (same | finite).all():
        return False
    allowed = (expected - precise)[finite].abs().max() if finite.any() else torch.zeros(())
    return bool(((actual - precise)[finite].abs() <= FURTHER * allowed).all())


def numbers_differ(
    actual: torch.Tensor, expected: torch.Tensor, precise: torch.Tensor | None, program: Program, exact: bool
) -> str | None:
    mine, theirs = plain(actual), plain(expected)
    exact = exact or not (theirs.is_floating_point() or theirs.is_complex())
    share = 0.0 if exact else SHARES[program.coarsest]
    atol = share * max(1.0, program.largest, largest(theirs))
    try:
        torch.testing.assert_close(mine, theirs, rtol=share, atol=atol, equal_nan=True)
    except AssertionError as error:
        if exact or not is_near(mine, theirs, precise):
            return " ".join(str(error).split())
    return None


def tensors_differ(key: str, actual: Any, expected: Any, precise: Any, program: Program, strides: bool) -> str | None:
    if actual is None or expected is None:
        return None if actual is expected else f"it is {actual}, and {expected} in CPU eager"
    for what in ("dtype", "shape", "requires_grad"):
        mine, theirs = getattr(actual, what), getattr(expected, what)
        if mine != theirs:
            return f"its {what} is {mine}, and {theirs} in CPU eager"
    if strides and expected.numel():
        pairs = zip(expected.shape, actual.stride(), expected.stride(), strict=True)
        if any(size > 1 and mine != theirs for size, mine, theirs in pairs):
            return f"its strides are {actual.stride()}, and {expected.stride()} in CPU eager"
    kind, name = key.rsplit(" ", 1)
    exact = name in program.exact and kind in ("result", "input")
    return numbers_differ(actual, expected, precise, program, exact)


def sharing(outcome: Outcome) -> set[tuple[str, str]]:
    """Which of the results and inputs lie in the same memory."""
    places = {
        key: value.untyped_storage().data_ptr()
        for key, value in outcome.items()
        if key.startswith(("result ", "input ")) and value.numel()
    }
    return {(one, other) for one in places for other in places if one < other and places[one] == places[other]}


def one_line(raised: tuple[type[Exception], str]) -> str:
    return f"{raised[0].__name__} ({' '.join(raised[1].split())[:300]})"


def call_differs(
    actual: Outcome, expected: Outcome, precise: Outcome | None, program: Program, strides: bool
) -> str | None:
    if "raised" in expected or "raised" in actual:
        mine, theirs = actual.get("raised"), expected.get("raised")
        if mine is not None and theirs is not None and issubclass(mine[0], theirs[0]):
            return None
        shown = [f"raises {one_line(raised)}" if raised else "raises nothing" for raised in (mine, theirs)]
        return f"it {shown[0]}, and CPU eager {shown[1]}"
    for key, value in expected.items():
        if key == "backward raised":
            continue
        if key.startswith("gradient ") and "backward raised" in expected:
            # What eager refuses (a value that its backward pass needs was overwritten) compiled code may do.
            continue
        if key.startswith("gradient ") and "backward raised" in actual:
            return f"its backward pass raises {one_line(actual['backward raised'])}"
        known = precise.get(key) if precise else None
        if found := tensors_differ(key, actual[key], value, known, program, strides):
            return f"{key}: {found}"
    mine, theirs = sharing(actual), sharing(expected)
    if mine != theirs:
        pairs = [f"{one} and {other}" for one, other in sorted(mine ^ theirs)]
        return f"{', '.join(pairs)} share memory either in it or in CPU eager alone"
    return None


def difference(
    actual: list[Outcome],
    expected: list[Outcome],
    precise: list[Outcome] | None,
    program: Program,
    strides: bool = False,
) -> str | None:
    """What an arm did otherwise than CPU eager, in words; None where they agree.

    Args:
        precise: the outcomes in f64, which say how far off CPU eager is itself.
        strides: whether results must lie in memory alike.
    """
    for number, (mine, theirs) in enumerate(zip(actual, expected, strict=True)):
        if found := call_differs(mine, theirs, precise[number] if precise else None, program, strides):
            return f"call {number + 1}, {found}"
    return None
