"""How the cases of a suite went, and which are known to fail, with the reason."""

import fnmatch
import json
import tomllib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

EXPECTED_FAILURES = Path(__file__).parent / "expected_failures.toml"
CRASHED = "crashed"
FAILURES = ("failed", CRASHED)


def case_name(node: str) -> str:
    """A case's name, wherever its suite is installed: the file's own name, then pytest's."""
    path, separator, rest = node.partition("::")
    return path.rpartition("/")[2] + separator + rest


def read(record: Path) -> dict[str, tuple[str, str]]:
    """The outcome and reason of each case of a record, the last that was written."""
    lines = record.read_text().splitlines() if record.exists() else []
    found: dict[str, tuple[str, str]] = {}
    for entry in map(json.loads, lines):
        # What fails after its body has passed, as it is put away, has failed.
        if found.get(entry["case"], ("", ""))[0] != "failed":
            found[entry["case"]] = entry["outcome"], entry["reason"]
    return found


def covers(pattern: str, case: str) -> bool:
    # Brackets are pytest's, and no set of characters.
    return fnmatch.fnmatchcase(case, pattern.replace("[", "[[]"))


@dataclass(frozen=True)
class Expected:
    """Why some cases of a suite fail. A pattern is a case's name, with `*` and `?` as in a shell."""

    suite: str
    reason: str
    cases: tuple[str, ...]

    def covers(self, case: str) -> bool:
        return any(covers(pattern, case) for pattern in self.cases)


def expected_failures(suite: str, file: Path = EXPECTED_FAILURES) -> list[Expected]:
    entries = tomllib.loads(file.read_text()).get("expected", [])
    return [Expected(suite, entry["reason"], tuple(entry["cases"])) for entry in entries if entry["suite"] == suite]


@dataclass
class Summary:
    """A suite's run in numbers, and what surprises."""

    suite: str
    outcomes: Counter[str] = field(default_factory=Counter)
    #: Failures that were expected, by reason.
    reasons: Counter[str] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)


#: Of a suite that says itself what is right, and that PyTorch's CPU does not pass.
AS_THE_CPU = "It fails on PyTorch's CPU too, which is the judge here."


def summarise(
    suite: str, cases: dict[str, tuple[str, str]], expected: list[Expected], on_cpu: Collection[str] = ()
) -> Summary:
    """Every failure is expected, and everything that is expected to fail does: the rest are surprises.

    Args:
        suite: its name.
        cases: the outcome and reason of each case.
        expected: the cases that are known to fail.
        on_cpu: those that fail on PyTorch's CPU as well.
    """
    summary = Summary(suite)
    met: Counter[str] = Counter()
    for case, (outcome, message) in cases.items():
        covering = [entry for entry in expected if entry.covers(case)]
        met.update(pattern for entry in covering for pattern in entry.cases if covers(pattern, case))
        if outcome in FAILURES and case in on_cpu:
            summary.outcomes["expected"] += 1
            summary.reasons[AS_THE_CPU] += 1
            continue
        if outcome in FAILURES and covering:
            summary.outcomes["expected"] += 1
            summary.reasons[covering[0].reason] += 1
        else:
            summary.outcomes[outcome] += 1
        if outcome in FAILURES and not covering:
            summary.surprises.append(f"{case} {outcome}: {' '.join(message.split())[:200]}")
        if outcome == "passed" and covering:
            summary.surprises.append(f"{case} passed, and is expected to fail: {covering[0].reason}")
    # Of files that a checkout has; those of PyTorch's own tests are not all in each.
    files = {case.partition("::")[0] for case in cases}
    listed = [pattern for entry in expected for pattern in entry.cases if pattern.partition("::")[0] in files]
    unmet = [pattern for pattern in listed if pattern not in met]
    summary.surprises += [f"no case of {suite} is called {pattern}" for pattern in unmet]
    return summary
