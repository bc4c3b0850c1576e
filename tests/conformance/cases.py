"""Every case of the suite, one question about one entry of a database in one dtype, and which are known to fail."""

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

import rustorch_device  # noqa: F401  before PyTorch's test modules, whose list of devices freezes
from conformance import checks, modules, optimizers
from conformance.inputs import DTYPES, NotDense

#: Samples of an entry and dtype, spread over those that the database has.
SAMPLES = 5
EXPECTED_FAILURES = Path(__file__).parent / "expected_failures.toml"


@dataclass(frozen=True)
class Case:
    op: str
    check: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.op} {self.check} {self.dtype}"


@dataclass
class Result:
    """How a case went. `fallbacks` counts the calls of ops that had no Rust kernel."""

    outcome: str  # "pass", "fail", "crash", or "not dense": the op's samples are sparse tensors
    message: str = ""
    fallbacks: dict[str, int] = field(default_factory=dict)

    @property
    def native(self) -> bool:
        return self.outcome == "pass" and not self.fallbacks


@cache
def ops() -> dict[str, Any]:
    """Every entry of the databases, by name: ops, foreach ops, modules, optimizers."""
    from torch.testing._internal import common_methods_invocations as databases

    foreach = (
        databases.foreach_unary_op_db,
        databases.foreach_binary_op_db,
        databases.foreach_pointwise_op_db,
        databases.foreach_reduce_op_db,
        databases.foreach_other_op_db,
    )
    found = {op.full_name: op for op in databases.op_db}
    found |= {op.full_name: op for database in foreach for op in database}
    return found | modules.modules() | optimizers.optimizers()


def _room(op: str) -> Any:
    """The Python module with the checks of an entry."""
    return {"module": modules, "optimizer": optimizers}.get(op.split(" ")[0], checks)


def listed(lines: Iterable[str]) -> Iterator[str]:
    """The cases of lines that name an entry, a check and the dtypes."""
    for line in lines:
        words = line.split(" ")
        # From the end, as an entry too may be called `bool`.
        first = next(at for at in reversed(range(len(words))) if words[at] not in DTYPES) + 1
        yield from (" ".join([*words[:first], dtype]) for dtype in words[first:])


@cache
def expected_failures() -> dict[str, str]:
    """The reason of each case that is known to fail. Every other case passes, and these do not."""
    table = tomllib.loads(EXPECTED_FAILURES.read_text())
    reasons: dict[str, str] = {}
    for entry in table.get("expected", []):
        for case in listed(entry["cases"]):
            assert case not in reasons, f"listed twice: {case}"
            reasons[case] = entry["reason"]
    return reasons


def cases(op: str) -> Iterator[Case]:
    for check, dtypes in _room(op).applicable(ops()[op]):
        for name, dtype in DTYPES.items():
            if dtype in dtypes:
                yield Case(op, check, name)


def run_case(case: Case, limit: int) -> Result:
    torch.rustorch.reset_fallback_counts()
    try:
        _room(case.op).CHECKS[case.check](ops()[case.op], DTYPES[case.dtype], limit)
        outcome, message = "pass", ""
    except NotDense as error:
        outcome, message = "not dense", str(error)
    except Exception as error:
        outcome, message = "fail", f"{type(error).__name__}: {error}"
    # Half-made outputs of a failed call may be anything; the next case starts afresh.
    return Result(outcome, message[:400], torch.rustorch.fallback_counts())
