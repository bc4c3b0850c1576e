"""A plugin of pytest that writes down how each case goes, a line a case, as soon as it is known.

`RUSTORCH_SUITE_RECORD` names the file. What it holds already is not run again; a case that began and has no end there
took the process with it. `RUSTORCH_SUITE_ONLY` names a file with the cases to run, a line each, where not all are.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from suites.outcomes import CRASHED, case_name, read

FILE = Path(os.environ["RUSTORCH_SUITE_RECORD"])
ONLY = os.environ.get("RUSTORCH_SUITE_ONLY")
#: What is written down of a case as it begins, which its end replaces.
BEGUN = {"outcome": CRASHED, "reason": "it ended the process, or took too long"}


def _write(line: dict[str, str]) -> None:
    with FILE.open("a") as file:
        file.write(json.dumps(line) + "\n")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    known = read(FILE)
    wanted = set(Path(ONLY).read_text().splitlines()) if ONLY else None

    def is_left(item: pytest.Item) -> bool:
        case = case_name(item.nodeid)
        return case not in known and (wanted is None or case in wanted)

    config.hook.pytest_deselected(items=[item for item in items if not is_left(item)])
    items[:] = [item for item in items if is_left(item)]


def pytest_runtest_logstart(nodeid: str) -> None:
    _write({"case": case_name(nodeid), **BEGUN})


def _reason(report: pytest.TestReport) -> str:
    representation: Any = report.longrepr
    if representation is None:
        return ""
    if isinstance(representation, tuple):
        return str(representation[2]).removeprefix("Skipped: ")
    crash = getattr(representation, "reprcrash", None)
    return str(representation if crash is None else crash.message)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        _write({"case": case_name(report.nodeid), "outcome": report.outcome, "reason": _reason(report)[:400]})


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _write({"case": case_name(report.nodeid), "outcome": "failed", "reason": str(report.longrepr)[-400:]})
