"""Runs the benches: `python -m benches.run`, or `--only gemm conv`, `--quick`, `--json FILE`."""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from . import compile, conv, fusion, gemm, overhead, plot, pointwise, records, render, suite, training
from .harness import QUICK, Effort, Result, measure

BENCHES = {
    "overhead": overhead.cases,
    "gemm": gemm.cases,
    "conv": conv.cases,
    "pointwise": pointwise.cases,
    "fusion": fusion.cases,
    "training": training.cases,
    "suite": suite.cases,
    "compile": compile.cases,
}
#: The benches in which Inductor can be an arm.
WITH_INDUCTOR = ("fusion", "training", "suite", "compile")


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benches.run", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=list(BENCHES), help="these benches alone")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--quick", action="store_true", help="few cases and samples: to see that it runs")
    parser.add_argument(
        "--inductor", action="store_true", help=f"Inductor as another arm of {', '.join(WITH_INDUCTOR)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every result there")
    parser.add_argument("--keep", action="store_true", help="write them to benches/results/PROCESSOR/DATE.json as well")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="rewrite the tables of this page")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the suite's results, for example as .svg")
    return parser.parse_args(given)


HEADING = f"{'case':<52} t {'arm':<24} {'best µs':>12} {'median µs':>12} {'ratio':>8} {'(median)':>8}"


def show(result: Result) -> None:
    outcome = result.failure or (
        f"{result.best_us:12.2f} {result.median_us:12.2f} {result.ratio_best:8.2f} {result.ratio_median:8.2f}"
    )
    note = f"  falls back: {', '.join(result.fallbacks)}" if result.fallbacks else ""
    print(f"{result.case:<52} {result.threads} {result.arm:<24} {outcome}{note}", flush=True)


def write_json(results: list[Result], file: Path) -> None:
    file.write_text(json.dumps([result.to_dict() for result in results], indent=1))


def failures(results: list[Result]) -> list[str]:
    """A line for each arm that has no time."""
    return [f"{result.case}, {result.arm}: {result.failure}" for result in results if result.failure]


def geometric_means(results: list[Result]) -> Iterator[str]:
    """A line for each arm of the suite: its speed relative to the best of PyTorch's own arms."""
    ratios: dict[tuple[str, int], list[float]] = {}
    cases: dict[tuple[str, int], dict[str, float]] = {}
    for result in results:
        if result.bench == "suite" and not result.failure:
            cases.setdefault((result.case, result.threads), {})[result.arm] = result.best_us
    for (_, threads), best in cases.items():
        peer = min(time for arm, time in best.items() if arm in ("cpu", "inductor"))
        for arm, time in best.items():
            ratios.setdefault((arm, threads), []).append(peer / time)
    for (arm, threads), values in ratios.items():
        mean = math.exp(sum(map(math.log, values)) / len(values))
        yield f"suite, {threads} threads, {arm}: geometric mean {mean:.2f} of PyTorch's better, {len(values)} cases"


def main(given: list[str] | None = None) -> int:
    options = arguments(given)
    if not hasattr(torch, "rustorch"):
        print("the device is not loaded: `python -m rustorch_device.backend_check` says why", file=sys.stderr)
        return 1
    torch.manual_seed(0)
    effort = QUICK if options.quick else Effort()
    results: list[Result] = []
    print(HEADING)
    for name in options.only:
        more = {"inductor": options.inductor} if name in WITH_INDUCTOR else {}
        for case in BENCHES[name](options.quick, **more):
            for threads in options.threads:
                for result in measure(case, threads, effort):
                    show(result)
                    results.append(result)
    for line in geometric_means(results):
        print(line)
    if options.json:
        write_json(results, options.json)
    if options.keep:
        print(f"kept in {records.Record.of(results).save()}")
    if options.write:
        from rustorch_device import _C

        command = "make bench" if given is None else "python -m benches.run " + " ".join(given)
        render.write(options.write, render.section(results, command, _C.simd_level()))
    if options.plot:
        plot.draw(results, options.plot)
    failed = failures(results)
    print(*failed, sep="\n", end="\n" if failed else "", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
