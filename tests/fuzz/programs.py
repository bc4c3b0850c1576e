"""Random programs: a few inputs, a list of steps over the values so far, and which values are results.

A step is a line of Python, chosen by running the lines before it on small CPU tensors (`fuzz.drawing`). So a program
is its own source: what is printed is what ran.
"""

import linecache
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, nan
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from fuzz import indexing, joins, mutations, pointwise, reductions, views
from fuzz.drawing import DTYPES, SEEDS, Drawing, NoOperand
from fuzz.inputs import numbers

FLOAT_NAMES = ("float32", "bfloat16", "float16", "float64")
#: Two lists are longer than a block, a vector, a cache line; others are empty, of one element, prime.
SHAPES = [
    (3, 4), (4,), (), (1,), (2, 3, 4), (7, 5), (0, 3), (1, 5), (13,), (2, 1, 3), (5, 5), (4, 6), (8,), (3, 0, 2),
    (2, 2, 2, 2), (17, 16), (1031,), (2, 300), (130, 300), (6, 1), (4, 2),
]  # fmt: skip
LAYOUTS = ["", "", ".transpose(0, -1)", "[::2]", "[1:]", "[..., ::2]", "[..., 1:]", ".unsqueeze(0).expand(3{rest})"]
SPECIAL = ["(nan,)", "(inf,)", "(-inf, nan)", "(inf, -inf, nan)"]
STEPS: dict[str, list[Callable[[Drawing], None]]] = {
    # First, as what a failing program does without is replaced by the first.
    "nothing": [lambda drawing: None],
    "pointwise": pointwise.STEPS,
    "view": views.STEPS,
    "mutation": mutations.STEPS,
    "reduction": reductions.STEPS,
    "index": indexing.STEPS,
    "join": joins.STEPS,
    "complex": joins.COMPLEX_STEPS,
}
WEIGHTED = [
    "nothing",
    *["pointwise"] * 5, *["view"] * 4, *["mutation"] * 5, *["reduction"] * 3, *["index"] * 3, *["join"] * 3, "complex",
]  # fmt: skip


@dataclass(frozen=True)
class Program:
    """A program, and how it is called."""

    #: Lines over `seed` and `device` that make the inputs, and the inputs' names.
    inputs: tuple[str, ...]
    names: tuple[str, ...]
    lines: tuple[str, ...]
    results: tuple[str, ...]
    #: Results and inputs that every arm must give the same bits of.
    exact: frozenset[str]
    #: The float type that rounds most, and the largest number that was rounded: errors are a share of it.
    coarsest: str
    largest: float
    #: Settings of `torch.compile`.
    dynamic: bool
    captures_values: bool
    #: Whether all forward passes run before the first backward pass.
    late_backward: bool
    #: What the inputs of each call are made from.
    seeds: tuple[int, ...] = (*SEEDS, SEEDS[0])

    def inputs_source(self) -> str:
        given = ", ".join(f'"{name}": {name}' for name in self.names)
        return "\n    ".join(["def inputs(seed, device):", *self.inputs, f"return {{{given}}}"])

    def source(self) -> str:
        results = "".join(f"{name}, " for name in self.results).strip() or "()"
        return "\n    ".join([f"def program({', '.join(self.names)}):", *self.lines, f"return {results}"])

    def functions(self) -> tuple[Callable[..., Any], Callable[[int, str], dict[str, torch.Tensor]]]:
        """The program and the function that makes its inputs."""
        text = f"{self.source()}\n\n\n{self.inputs_source()}\n"
        name = f"<program {hash(text):x}>"
        # So that errors show its lines.
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        namespace: dict[str, Any] = {"torch": torch, "F": F, "numbers": numbers, "nan": nan, "inf": inf}
        exec(compile(text, name, "exec"), namespace)
        return namespace["program"], namespace["inputs"]

    def in_f64(self) -> "Program":
        """The same in f64, with no float type below it."""

        def widened(lines: tuple[str, ...]) -> tuple[str, ...]:
            for dtype in FLOAT_NAMES:
                lines = tuple(line.replace(f"torch.{dtype}", "torch.float64") for line in lines)
            return lines

        return replace(self, inputs=widened(self.inputs), lines=widened(self.lines))

    def uses_own_ops(self) -> bool:
        return any("torch.ops.fuzz" in line for line in self.lines)


def draw_input(d: Drawing, position: int) -> None:
    name = "abcd"[position]
    if position and d.chance(12):
        other = d.choice(d.names)
        if not d.tensor(other).requires_grad:
            views = [other, f"{other}.view_as({other})"]
            views += [f"{other}[1:]", f"{other}.transpose(0, -1)"] if d.tensor(other).dim() else []
            d.input(name, d.choice(views))
            return
    dtype, shape = d.choice([*["float32"] * 4, *DTYPES]), d.choice(SHAPES)
    if position and d.chance(2):
        shape = tuple(d.tensor(d.names[0]).shape)
    layout = d.choice(LAYOUTS).format(rest=", -1" * len(shape)) if shape else ""
    is_float = getattr(torch, dtype).is_floating_point
    special = f", special={d.choice(SPECIAL)}" if is_float and d.chance(8) else ""
    grad = ".requires_grad_()" if is_float and d.chance(3) else ""
    seed = f"seed + {10 * position}" if position else "seed"
    d.input(name, f"numbers({seed}, {shape}, torch.{dtype}{special}).to(device){layout}{grad}")


@st.composite
def step(draw: Callable[[st.SearchStrategy[Any]], Any], drawing: Drawing) -> None:
    drawing.draw = draw
    if drawing.raises:
        return
    kind = draw(st.sampled_from(WEIGHTED))
    try:
        draw(st.sampled_from(STEPS[kind]))(drawing)
    except NoOperand:
        return


@st.composite
def programs(draw: Callable[[st.SearchStrategy[Any]], Any], most_steps: int = 24) -> Program:
    drawing = Drawing()
    drawing.draw = draw
    for position in range(draw(st.integers(1, 3))):
        draw_input(drawing, position)
    drawing.given.update(drawing.names)
    draw(st.lists(step(drawing), min_size=min(10, most_steps), max_size=most_steps))
    drawing.draw = draw
    made = [name for name in drawing.names if name not in drawing.given]
    kept = [name for name in made if name not in drawing.used or drawing.chance(5)]
    if drawing.chance(10):
        kept.append(drawing.choice(sorted(drawing.given)))
    dtypes = {str(drawing.tensor(name).dtype).removeprefix("torch.") for name in drawing.names}
    order = ["bfloat16", "float16", "float32", "complex64"]
    return Program(
        inputs=tuple(drawing.inputs),
        names=tuple(name for name in drawing.names if name in drawing.given),
        lines=tuple(drawing.lines),
        results=tuple(kept),
        exact=frozenset(name for name in drawing.names if drawing.is_exact(name)),
        coarsest=next((dtype for dtype in order if dtype in dtypes), "float64").replace("complex64", "float32"),
        largest=drawing.largest_inexact,
        dynamic=drawing.chance(5),
        captures_values=drawing.chance(3),
        late_backward=drawing.chance(4),
    )
