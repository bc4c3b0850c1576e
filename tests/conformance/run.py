"""`make conformance`: every case of the databases in two processes, compared with what is known of it.

Results are kept an op a file, so that a run that was stopped goes on where it was; surprises are tried
again. All are made anew when the extension has been rebuilt, save with --keep.
"""

import argparse
import fnmatch
import json
import sys
from dataclasses import asdict
from pathlib import Path

from conformance import golden
from conformance.cases import DTYPES, SAMPLES, Case, Result, cases, expected_failures, ops
from conformance.pool import run_all
from conformance.report import coverage, ops_page, surprise, surprises, tally
from rustorch_device import _C

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "ops.md"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m conformance.run", description=__doc__)
    parser.add_argument("--ops", default="*", help="a pattern of op names, such as 'nn.functional.*'")
    parser.add_argument("--checks", nargs="*", help="such as forward backward")
    parser.add_argument("--dtypes", nargs="*", choices=list(DTYPES), help="such as float32 int64")
    parser.add_argument("--limit", type=int, default=SAMPLES, help="samples of each op and dtype")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "conformance")
    parser.add_argument("--keep", action="store_true", help="results of another build count as done")
    parser.add_argument(
        "--accept", action="store_true", help="write tests/golden/not_native.toml and docs/ops.md as the results are"
    )
    parser.add_argument("--coverage", type=Path, help="a list of what is not native, for those who write kernels")
    wanted = parser.parse_args()
    if wanted.accept and (wanted.ops != "*" or wanted.checks or wanted.dtypes or wanted.limit != SAMPLES):
        parser.error("--accept takes the results of the whole suite")
    return wanted


class Store:
    """What is known of each op, in a folder."""

    def __init__(self, folder: Path, limit: int, keep: bool) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.build = f"{Path(_C.__file__).stat().st_mtime_ns} limit {limit}"
        self.keep = keep

    def _path(self, op: str) -> Path:
        return self.folder / f"{op}.json"

    def load(self, op: str) -> dict[str, Result]:
        if not self._path(op).exists():
            return {}
        data = json.loads(self._path(op).read_text())
        if data["build"] != self.build and not self.keep:
            return {}
        return {case: Result(**result) for case, result in data["results"].items()}

    def add(self, op: str, results: dict[str, Result]) -> None:
        all_results = {**self.load(op), **results}
        text = json.dumps(
            {"build": self.build, "results": {case: asdict(result) for case, result in all_results.items()}}, indent=1
        )
        fresh = self._path(op).with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self._path(op))


def main() -> int:
    wanted = arguments()
    store = Store(wanted.results, wanted.limit, wanted.keep)
    names = [name for name in ops() if fnmatch.fnmatch(name, wanted.ops)]

    def chosen(case: Case) -> bool:
        return (wanted.checks is None or case.check in wanted.checks) and (
            wanted.dtypes is None or case.dtype in wanted.dtypes
        )

    missing = []
    for name in names:
        known = store.load(name)
        # Of what is known, surprises are tried again.
        fine = {case for case, result in known.items() if not surprise(f"{name} {case}", result, expected_failures())}
        left = [case for case in cases(name) if chosen(case) and f"{case.check} {case.dtype}" not in fine]
        if left:
            missing.append((name, left))
    print(f"{len(names)} ops, {len(names) - len(missing)} of them done already", flush=True)

    finished = 0

    def done(op: str, results: dict[str, Result]) -> None:
        nonlocal finished
        store.add(op, results)
        finished += 1
        failed = [case for case, result in results.items() if result.outcome in ("fail", "crash")]
        if failed or finished % 50 == 0:
            print(f"[{finished}/{len(missing)}] {op}: {', '.join(failed) or 'as expected'}", flush=True)

    run_all(missing, done, wanted.processes, wanted.limit)

    results = {}
    for name in names:
        known = store.load(name)
        wanted_cases = [f"{case.check} {case.dtype}" for case in cases(name)]
        results[name] = {case: known[case] for case in wanted_cases if case in known}
    print(tally(results), flush=True)
    if wanted.coverage:
        wanted.coverage.write_text(coverage(results))
    if wanted.accept:
        golden.write(results)
        PAGE.write_text(ops_page(golden.known_results()))
    wrong = surprises(results, expected_failures()) + golden.moved(results)
    if ops_page(golden.known_results()) != PAGE.read_text():
        wrong.append("STALE docs/ops.md: conformance.run --accept writes it")
    print("\n".join(wrong) if wrong else "Every case went as expected.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
