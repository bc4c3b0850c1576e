"""Which cases are native: all but those of `tests/golden/not_native.toml`, with which every run is compared.

The file knows the checks that run an op as a user does, in every dtype (`CHECKS`); the others run the same kernels.
"""

import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from conformance.cases import Result, cases, expected_failures, listed, ops
from conformance.inputs import DTYPES

Results = dict[str, dict[str, Result]]

FILE = Path(__file__).parent.parent / "golden" / "not_native.toml"
HEAD = """\
# Written by `python -m conformance.run --accept`: the cases that are not native. Every run of the suite fails where a
# case that is not here runs one of PyTorch's CPU kernels, or where one that is here no longer does.
"""
CHECKS = {"forward", "backward", "in_place", "train", "eval", "for_loop", "foreach", "fused"}
#: What each list of the file holds.
LISTS = {
    "fallback": "A CPU kernel runs, over the same memory, for all of the op or for a part of it.",
    "not_dense": "The samples, or the results, are sparse, quantised or nested tensors.",
}


@cache
def not_native() -> dict[str, str]:
    """The list that names each case that is not native."""
    table = tomllib.loads(FILE.read_text())
    return {case: name for name in LISTS for case in listed(table[name])}


def list_of(result: Result) -> str | None:
    """The list that a case belongs to after it went so; failures are listed elsewhere."""
    if result.outcome == "not dense":
        return "not_dense"
    return "fallback" if result.outcome == "pass" and result.fallbacks else None


def moved(results: Results) -> list[str]:
    """Where results differ from the file: a kernel that was lost, or one that the file does not know yet."""
    found = []
    for op, of_op in results.items():
        for check, result in of_op.items():
            case = f"{op} {check}"
            before, after = not_native().get(case), list_of(result)
            if check.split(" ")[0] not in CHECKS or result.outcome in ("fail", "crash") or before == after:
                continue
            if after is None:
                found.append(f"NATIVE {case}, listed as {before}: conformance.run --accept takes it off the list")
            else:
                ran = ", ".join(sorted(result.fallbacks)) or result.message
                found.append(f"NOT NATIVE {case}: {after}, {ran}")
    return found


def known_results() -> Results:
    """How every case goes, as the files have it: the page docs/ops.md is written from them."""

    def result(op: str, check: str, dtype: str) -> Result:
        case = f"{op} {check} {dtype}"
        if case in expected_failures():
            return Result("fail")
        # An entry whose samples no dense tensor stands for has none in the other checks either.
        name = not_native().get(case if check in CHECKS else f"{op} forward {dtype}")
        return Result("not dense" if name == "not_dense" else "pass", fallbacks={"": 1} if name == "fallback" else {})

    return {
        op: {f"{case.check} {case.dtype}": result(op, case.check, case.dtype) for case in cases(op)} for op in ops()
    }


def _lines(names: Iterable[tuple[str, str]]) -> list[str]:
    """A line an entry and check, with its dtypes."""
    lines: dict[str, list[str]] = {}
    for head, dtype in names:
        lines.setdefault(head, []).append(dtype)
    return [
        f'    "{head} {" ".join(sorted(dtypes, key=list(DTYPES).index))}",' for head, dtypes in sorted(lines.items())
    ]


def write(results: Results) -> None:
    """Writes the file anew."""
    text = HEAD
    for name, meaning in LISTS.items():
        chosen = [
            (f"{op} {check.rsplit(' ', 1)[0]}", check.rsplit(" ", 1)[1])
            for op, of_op in results.items()
            for check, result in of_op.items()
            if check.split(" ")[0] in CHECKS and list_of(result) == name
        ]
        text += "\n".join(["", f"# {meaning}", f"{name} = [", *_lines(chosen), "]", ""])
    FILE.write_text(text)
    not_native.cache_clear()
