"""A program while it is drawn. It runs along on the CPU, so that each step is chosen for values that are there."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from fuzz import custom_ops  # noqa: F401  programs call its ops
from fuzz.inputs import numbers

#: The seeds of the inputs that a program is drawn with. It is called with the same.
SEEDS = (0, 1)
MOST_ELEMENTS = 50_000
#: Numbers stay below: what is inexact is compared within a share of the largest, and sums of what is exact stay so.
LARGEST_INEXACT, LARGEST_EXACT = 200, 10_000
DTYPES = ("float32", "float64", "bfloat16", "float16", "int64", "int32", "uint8", "bool")

Choice = TypeVar("Choice")


class NoOperand(Exception):
    """There is no value that the step could take."""


def self_overlaps(tensor: torch.Tensor) -> bool:
    """Whether two of its elements may lie in the same place."""
    reach = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return True
            reach += stride * (size - 1)
    return False


class Drawing:
    """Steps so far, their values in each of the runs, and what is known of them.

    A value is exact where every arm must give the same bits: it was made from the inputs' coarse numbers by steps
    that round in one way alone. What would make a large difference of a small one (comparisons, casts to integers,
    the index of the largest) is done to exact values only.
    """

    def __init__(self) -> None:
        self.draw: Callable[[st.SearchStrategy[Any]], Any]
        self.environments: list[dict[str, Any]] = [
            {
                "torch": torch,
                "F": F,
                "numbers": numbers,
                "nan": math.nan,
                "inf": math.inf,
                "device": "cpu",
                "seed": seed,
            }
            for seed in SEEDS
        ]
        #: Source lines.
        self.inputs: list[str] = []
        self.lines: list[str] = []
        self.names: list[str] = []
        #: The names of the inputs.
        self.given: set[str] = set()
        self.used: set[str] = set()
        #: Storages that hold numbers that arms may round differently.
        self.inexact: set[int] = set()
        self.largest_inexact = 0.0
        self.raises = False

    # What is drawn.

    def integer(self, least: int, most: int) -> int:
        return self.draw(st.integers(least, most))

    def choice(self, options: Sequence[Choice]) -> Choice:
        if not options:
            raise NoOperand
        return self.draw(st.sampled_from(options))

    def chance(self, one_in: int) -> bool:
        return self.draw(st.integers(0, one_in - 1)) == one_in - 1

    def dimension(self, tensor: torch.Tensor) -> int:
        """One of its dimensions, counted from the front."""
        if not tensor.dim():
            raise NoOperand
        return self.integer(0, tensor.dim() - 1)

    # Values.

    def tensor(self, name: str) -> torch.Tensor:
        return self.environments[0][name]

    def each(self, name: str) -> list[torch.Tensor]:
        """The value in each of the runs."""
        return [environment[name] for environment in self.environments]

    def evaluate(self, expression: str) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return eval(expression, dict(self.environments[0]))
        except Exception:
            raise NoOperand from None

    def is_exact(self, name: str) -> bool:
        return all(tensor.untyped_storage()._cdata not in self.inexact for tensor in self.each(name))

    def pick(self, *conditions: "Condition", complex_numbers: bool = False) -> str:
        """A value for which the conditions hold, of real numbers if not said otherwise. The latest come more often."""
        fitting = [name for name in self.names if self._fits(name, conditions, complex_numbers)]
        return self.choice(fitting + 2 * fitting[-3:])

    def _fits(self, name: str, conditions: Sequence["Condition"], complex_numbers: bool) -> bool:
        try:
            is_complex = self.tensor(name).is_complex()
            return is_complex == complex_numbers and all(test(self, name) for test in conditions)
        except RuntimeError:
            # What `unbind` gave, for example, when its base has been written: autograd refuses it.
            return False

    # Steps.

    def _attempt(self, line: str) -> bool:
        """Runs a line. One that raises is left out, and seldom kept as the program's last."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for environment in self.environments:
                    exec(line, environment)
        except Exception:
            if self.chance(15):
                self.lines.append(line)
                self.raises = True
            return False
        return True

    def _forget(self, names: list[str]) -> None:
        for environment in self.environments:
            for name in names:
                environment.pop(name, None)

    def input(self, name: str, expression: str) -> None:
        line = f"{name} = {expression}"
        for environment in self.environments:
            exec(line, environment)
        self.inputs.append(line)
        self.names.append(name)

    def value(self, expression: str, *reads: str, exact: bool = True, count: int = 1) -> None:
        """A step that gives `count` values.

        Args:
            reads: the values that the expression names.
            exact: whether what it makes of exact values is exact.
        """
        names = [f"v{len(self.names) + number}" for number in range(count)]
        exact = exact and all(self.is_exact(name) for name in reads)
        line = f"{', '.join(names)} = {expression}"
        if not self._attempt(line):
            self._forget(names)
            return
        tensors = [tensor for name in names for tensor in self.each(name)]
        largest = max(map(largest_number, tensors))
        few = all(tensor.numel() <= MOST_ELEMENTS and tensor.dim() <= 6 for tensor in tensors)
        if not few or not largest <= (LARGEST_EXACT if exact else LARGEST_INEXACT):
            self._forget(names)
            return
        self.lines.append(line)
        self.names += names
        self.used.update(reads)
        self._mark(tensors, exact)

    def write(self, line: str, target: str, *reads: str, exact: bool = True) -> None:
        """A step that writes to a value, or to a view of it."""
        to = self.tensor(target).dtype
        exact = exact and all(self.is_exact(name) for name in reads)
        keeps_fractions = to.is_floating_point or to.is_complex
        if not keeps_fractions and not (exact and all(castable(to)(self, name) for name in reads)):
            raise NoOperand
        if not self._attempt(line):
            return
        self.lines.append(line)
        self.used.update(reads)
        self._mark(self.each(target), exact)

    def _mark(self, tensors: list[torch.Tensor], exact: bool) -> None:
        tensors = [tensor for tensor in tensors if tensor.is_floating_point() or tensor.is_complex()]
        if not exact:
            self.inexact.update(tensor.untyped_storage()._cdata for tensor in tensors)
            self.largest_inexact = max([self.largest_inexact, *map(largest_number, tensors)])


Condition = Callable[[Drawing, str], bool]


def largest_number(tensor: torch.Tensor) -> float:
    """The largest of a float tensor's finite numbers."""
    if not tensor.numel() or not (tensor.is_floating_point() or tensor.is_complex()):
        return 0.0
    numbers = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return numbers.detach().abs().nan_to_num(0, 0, 0).max().item()


# Conditions for operands.


def floating(drawing: Drawing, name: str) -> bool:
    return drawing.tensor(name).is_floating_point()


def single_or_double(drawing: Drawing, name: str) -> bool:
    return drawing.tensor(name).dtype in (torch.float32, torch.float64)


def numeric(drawing: Drawing, name: str) -> bool:
    return drawing.tensor(name).dtype != torch.bool


def boolean(drawing: Drawing, name: str) -> bool:
    return drawing.tensor(name).dtype == torch.bool


def bits(drawing: Drawing, name: str) -> bool:
    return not drawing.tensor(name).is_floating_point()


def integral(drawing: Drawing, name: str) -> bool:
    return bits(drawing, name) and numeric(drawing, name)


def exact(drawing: Drawing, name: str) -> bool:
    return drawing.is_exact(name)


def bends(drawing: Drawing, name: str) -> bool:
    """It may go through a function with a kink, whose gradient there would be chosen by how the value was rounded."""
    return drawing.is_exact(name) or not drawing.tensor(name).requires_grad


def not_empty(drawing: Drawing, name: str) -> bool:
    return drawing.tensor(name).numel() > 0


def writable(drawing: Drawing, name: str) -> bool:
    tensor = drawing.tensor(name)
    return not self_overlaps(tensor) and not (tensor.requires_grad and tensor.is_leaf)


def dimensions(least: int, most: int = 6) -> Condition:
    return lambda drawing, name: least <= drawing.tensor(name).dim() <= most


def of_dtype(dtype: torch.dtype) -> Condition:
    return lambda drawing, name: drawing.tensor(name).dtype == dtype


def coarse(drawing: Drawing, name: str) -> bool:
    """Its sums, and those of its products, are exact."""
    if not drawing.is_exact(name):
        return False
    for tensor in drawing.each(name):
        if tensor.is_floating_point():
            sixteenths = tensor.detach().double().nan_to_num(0, 0, 0) * 16
            if not ((sixteenths == sixteenths.round()) & (sixteenths.abs() <= 256)).all():
                return False
    return True


def multipliable(drawing: Drawing, name: str, whole: bool = False) -> bool:
    """No product along one of its dimensions (`whole`: of all its numbers) overflows: whether infinity meets a zero
    would depend on their order."""
    for tensor in drawing.each(name):
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        bits = tensor.detach().double().nan_to_num(0, 0, 0).abs().clamp(min=1).log2()
        sums = [bits.sum()] if whole else [bits.sum(dimension).max() for dimension in range(bits.dim())]
        if any(total > math.log2(torch.finfo(tensor.dtype).max) for total in sums):
            return False
    return True


def castable(to: torch.dtype) -> Condition:
    """Its numbers have one meaning in an integer type: they are finite and not too large."""

    def test(drawing: Drawing, name: str) -> bool:
        if not floating(drawing, name) or to == torch.bool:
            return True
        least, most = torch.iinfo(to).min, torch.iinfo(to).max
        tensors = [tensor.detach() for tensor in drawing.each(name)]
        return all(bool(((tensor >= least) & (tensor <= min(most, 2**30))).all()) for tensor in tensors)

    return test


def expands_to(shape: Sequence[int]) -> Condition:
    def test(drawing: Drawing, name: str) -> bool:
        try:
            return torch.broadcast_shapes(drawing.tensor(name).shape, shape) == torch.Size(shape)
        except RuntimeError:
            return False

    return test


def broadcasts_with(other: str) -> Condition:
    def test(drawing: Drawing, name: str) -> bool:
        try:
            shape = torch.broadcast_shapes(drawing.tensor(name).shape, drawing.tensor(other).shape)
        except RuntimeError:
            return False
        return math.prod(shape) <= MOST_ELEMENTS

    return test


def apart_from(other: str) -> Condition:
    """They share no memory: what a write makes of operands that overlap is not defined."""

    def test(drawing: Drawing, name: str) -> bool:
        storages = [drawing.tensor(value).untyped_storage()._cdata for value in (name, other)]
        return storages[0] != storages[1]

    return test
