"""The ways to run a program: eager and compiled, on the CPU and on rustorch."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from fuzz.calling import Outcome, calls
from fuzz.programs import Program


@dataclass(frozen=True)
class Arm:
    """A device, and a backend of `torch.compile` or None for eager."""

    device: str
    backend: str | Callable[..., Any] | None = None

    def __str__(self) -> str:
        return f"compiled on {self.device}" if self.backend else f"eager on {self.device}"


#: Where a compiled program differs just as it does with PyTorch's own tracing alone, our compiler is not to blame.
TRACED = Arm("cpu", "aot_eager")
ARMS = [Arm("rustorch"), Arm("cpu", "rust_backend"), Arm("rustorch", "rust_backend")]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without warnings and logs: of graph breaks, of what raises, of ops without a Rust kernel."""
    before, level = torch.rustorch.set_fallback_policy("silent"), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        torch.rustorch.set_fallback_policy(before)


def run(program: Program, arm: Arm) -> list[Outcome]:
    """What came of each call."""
    function, inputs = program.functions()
    with quiet():
        if arm.backend is None:
            return calls(function, inputs, program.results, arm.device, program.seeds, program.late_backward)
        torch._dynamo.reset()
        compiled = torch.compile(function, backend=arm.backend, dynamic=program.dynamic or None)
        on = program.captures_values
        with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=on, capture_scalar_outputs=on):
            return calls(compiled, inputs, program.results, arm.device, program.seeds, program.late_backward)


def in_f64(program: Program) -> list[Outcome] | None:
    """What came of each call in f64, or None where that is another program."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        outcomes = run(program.in_f64(), Arm("cpu"))
    finally:
        torch.set_default_dtype(before)
    return None if any("raised" in outcome for outcome in outcomes) else outcomes
