"""What the results say: surprises, coverage, and the page docs/ops.md."""

import fnmatch
from collections import Counter

from conformance.cases import DTYPES, Result
from conformance.checks import CHECKS

Results = dict[str, dict[str, Result]]

#: Left out of the totals that the project is measured by.
SPECIALISED = ("linalg.*", "fft.*", "sparse.*", "special.*", "signal.*", "jiterator*")


#: The databases other than `op_db`, by how the names of their entries start: title, and the columns.
OTHERS = {
    "_foreach_": ("Foreach ops", ("forward", "in_place", "backward"), ("float32", "float64", "bfloat16", "int64")),
    "module ": ("Modules", ("train", "eval"), ("float32", "float64")),
    "optimizer ": ("Optimizers", ("for_loop", "foreach", "fused"), ("float32", "float64")),
}


def of_op_db(results: Results) -> Results:
    return {op: cases for op, cases in results.items() if not op.startswith(tuple(OTHERS))}


def is_specialised(op: str) -> bool:
    return any(fnmatch.fnmatch(op.removeprefix("masked."), pattern) for pattern in SPECIALISED)


def surprise(case: str, result: Result, expected: dict[str, str]) -> str | None:
    """What is wrong: it failed though nothing says so, or passed though it should fail."""
    failed = result.outcome in ("fail", "crash")
    if failed and case not in expected:
        return f"FAILED {case}: {result.message}"
    if not failed and case in expected:
        return f"PASSED {case}, expected to fail: {expected[case]}"
    return None


def surprises(results: Results, expected: dict[str, str]) -> list[str]:
    found = (
        surprise(f"{op} {case}", result, expected) for op, cases in results.items() for case, result in cases.items()
    )
    return [what for what in found if what is not None]


def tally(results: Results) -> str:
    """How many cases came out how, in words."""
    outcomes = Counter(result.outcome for cases in results.values() for result in cases.values())
    skipped = outcomes.pop("not dense", 0)
    failed = sum(outcomes[outcome] for outcome in ("fail", "crash"))
    return (
        f"{outcomes.total()} cases of {len(results)} entries: {outcomes['pass']} passed, {failed} failed, expected or "
        f"not, and {skipped} more whose samples or results are not dense"
    )


def totals(results: Results, case: str, specialised: bool) -> tuple[int, int]:
    """How many ops are native in `case` ("forward float32"), of how many that have it."""
    known = [
        cases[case]
        for op, cases in results.items()
        if case in cases and is_specialised(op) == specialised and cases[case].outcome != "not dense"
    ]
    return sum(result.native for result in known), len(known)


def share(native: int, count: int) -> str:
    return f"{native} of {count} ({100 * native / max(count, 1):.1f} %)"


def coverage(results: Results) -> str:
    """What is not native in f32, and the aten ops that fell back."""
    results = of_op_db(results)
    lines = ["# Native in f32 (no fallback counted, results agree)", ""]
    for case in ("forward float32", "backward float32"):
        for specialised in (False, True):
            which = "linalg, fft, sparse, special, signal, jiterator" if specialised else "the measured ops"
            lines.append(f"{case}, {which}: {share(*totals(results, case, specialised))}")
    for case in ("forward float32", "backward float32"):
        causes: Counter[str] = Counter()
        rows = []
        for op, cases in results.items():
            result = cases.get(case)
            if result is None or result.native or is_specialised(op):
                continue
            # A backward that lacks only what forward lacks is listed with forward.
            forward = cases.get("forward float32")
            known = set(forward.fallbacks) if case.startswith("backward") and forward else set()
            names = sorted(name.removeprefix("aten::") for name in result.fallbacks if name not in known)
            if not names and result.outcome == "pass":
                continue
            causes.update(names)
            failure = "" if result.outcome == "pass" else f" **{result.outcome}: {result.message[:160]}**"
            rows.append(f"- {op}: {', '.join(names)}{failure}")
        lines += ["", f"## {case}: aten ops by the entries that they keep from being native", ""]
        lines += [f"- {name}: {count}" for name, count in causes.most_common()]
        lines += ["", f"## {case}: entries", "", *rows]
    return "\n".join(lines) + "\n"


def mark(result: Result | None) -> str:
    if result is None:
        return ""
    if result.outcome != "pass":
        return "✗"
    return "●" if not result.fallbacks else "○"


def short(dtype: str) -> str:
    heads = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16", "complex64": "c64"}
    return heads.get(dtype, dtype.replace("uint", "u").replace("int", "i"))


def other_table(prefix: str, results: Results) -> list[str]:
    title, checks, dtypes = OTHERS[prefix]
    columns = [f"{check} {dtype}" for check in checks for dtype in dtypes]
    heads = [f"{check.replace('_', ' ')} {short(dtype)}" for check in checks for dtype in dtypes]
    lines = ["", f"## {title}", "", f"| | {' | '.join(heads)} |", "|---" * (len(columns) + 1) + "|"]
    for name, cases in sorted(results.items()):
        if name.startswith(prefix):
            marks = [mark(cases.get(column)) for column in columns]
            lines.append(f"| `{name.removeprefix(prefix)}` | {' | '.join(marks)} |")
    return lines


def ops_page(everything: Results) -> str:
    """The text of docs/ops.md."""
    results = of_op_db(everything)
    columns = [short(name) for name in DTYPES]
    lines = [
        "# Ops",
        "",
        "PyTorch's databases of ops, foreach ops, modules and optimizers, run on rustorch and compared with the CPU.",
        "`make conformance ACCEPT=--accept` writes this page, and every run of the suite compares with it.",
        "",
        "● native: every kernel that ran is Rust · ○ fallback: PyTorch's CPU kernel ran, over the same memory ·",
        "✗ not supported, or different from the CPU for a reason (`tests/conformance/expected_failures.toml`) ·",
        "blank: PyTorch's CPU does not have it either",
        "",
        "## Totals",
        "",
        "| | native |",
        "|---|---|",
    ]
    for specialised, which in ((False, ""), (True, ", of linalg, fft, sparse, special, signal and jiterator")):
        for check in ("forward", "backward"):
            native, count = totals(results, f"{check} float32", specialised)
            lines.append(f"| f32 {check}{which} | {share(native, count)} |")
    lines += ["", "| forward, all ops | native | fallback | not supported |", "|---|---|---|---|"]
    for name, column in zip(DTYPES, columns, strict=True):
        marks = Counter(mark(cases.get(f"forward {name}")) for cases in results.values())
        lines.append(f"| {column} | {marks['●']} | {marks['○']} | {marks['✗']} |")
    lines += ["", "| what is asked of ops | cases | expected to fail |", "|---|---|---|"]
    for check in CHECKS:
        outcomes = [
            result.outcome
            for cases in results.values()
            for case, result in cases.items()
            if case.startswith(f"{check} ") and result.outcome != "not dense"
        ]
        failed = sum(outcome != "pass" for outcome in outcomes)
        lines.append(f"| {check.replace('_', ' ')} | {len(outcomes)} | {failed} |")
    lines += ["", "## Op by op", "", f"| op | {' | '.join(columns)} | f32 backward |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for op, cases in sorted(results.items()):
        marks_of_op = [mark(cases.get(f"forward {name}")) for name in DTYPES]
        lines.append(f"| `{op}` | {' | '.join(marks_of_op)} | {mark(cases.get('backward float32'))} |")
    for prefix in OTHERS:
        lines += other_table(prefix, everything)
    return "\n".join(lines) + "\n"
