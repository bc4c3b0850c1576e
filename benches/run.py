"""Runs the benches: `python -m benches.run`, or `--only gemm conv`, `--peers`, `--quick`, `--json FILE`."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from . import (
    attention,
    compile,
    conv,
    fusion,
    gemm,
    layers,
    models,
    overhead,
    plot,
    pointwise,
    records,
    render,
    suite,
    training,
)
from .harness import QUICK, Case, Effort, Result, measure, said
from .peers import PEERS

#: Benches whose cases are measured in this process.
CASES = {
    "overhead": overhead.cases,
    "gemm": gemm.cases,
    "conv": conv.cases,
    "pointwise": pointwise.cases,
    "layers": layers.cases,
    "attention": attention.cases,
    "fusion": fusion.cases,
    "training": training.cases,
    "compile": compile.cases,
}
BENCHES = [*CASES, "suite"]
#: What is measured with `--peers`, where nothing else is said: kernels, and models beside what people deploy.
WHOLE = ["gemm", "conv", "pointwise", "layers", "attention", "suite"]
#: The benches in which Inductor can be an arm.
WITH_INDUCTOR = ("fusion", "training", "suite", "compile")


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benches.run", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=BENCHES, help="these benches alone")
    parser.add_argument("--models", nargs="+", choices=models.MODELS, help="these models of the suite alone")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--samples", type=int, default=Effort.samples, help="of each arm, at most")
    parser.add_argument("--quick", action="store_true", help="few cases and samples: to see that it runs")
    parser.add_argument(
        "--inductor", action="store_true", help=f"Inductor as another arm of {', '.join(WITH_INDUCTOR)}"
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help=f"{', '.join(WHOLE)}, with every peer as an arm of the models: `make bench-env` installs them",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every result there")
    parser.add_argument("--keep", action="store_true", help="write them to benches/results/PROCESSOR/DATE.json as well")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="rewrite the page's tables, of every kept record")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the suite's results, for example as .svg")
    return parser.parse_args(given)


HEADING = f"{'case':<52} t {'arm':<37} {'best µs':>12} {'median µs':>12} {'ratio':>8} {'(median)':>8} {'share':>6}"


def show(result: Result) -> None:
    outcome = result.failure or (
        f"{result.best_us:12.2f} {result.median_us:12.2f} {result.ratio_best:8.2f} {result.ratio_median:8.2f} "
        f"{render.percent(result.share):>6}"
    )
    note = f"  falls back: {', '.join(result.fallbacks)}" if result.fallbacks else ""
    print(f"{result.case:<52} {result.threads} {result.arm:<37} {outcome}{note}", flush=True)


def write_json(results: list[Result], file: Path) -> None:
    file.write_text(json.dumps([result.to_dict() for result in results], indent=1))


def failures(results: list[Result]) -> list[str]:
    """A line for each arm that has no time."""
    return [f"{result.case}, {result.arm}: {result.failure}" for result in results if result.failure]


def geometric_means(results: list[Result]) -> Iterator[str]:
    """A line for each arm of the suite, in each mode: its speed relative to the best of the peers."""
    ratios: dict[tuple[str, str, int], list[float]] = {}
    for (case, threads), row in render.rows(results, "suite").items():
        peer = render.best(row, ours=False)
        for arm, result in row.items() if peer else ():
            if not result.failure:
                key = (case.partition(", ")[2], arm, threads)
                ratios.setdefault(key, []).append(peer.best_us / result.best_us)
    for (mode, arm, threads), values in ratios.items():
        kind = ", ".join(filter(None, ["suite", mode, f"{threads} threads", arm]))
        yield f"{kind}: geometric mean {render.mean(values):.2f} of the best peer, {len(values)} cases"


def measured(name: str, options: argparse.Namespace) -> Iterator[Result]:
    """Every result of a bench."""
    if name == "suite":
        arms = "peers" if options.peers else "inductor" if options.inductor else "few"
        yield from suite.results(options.quick, options.threads, arms, options.models, options.samples)
        return
    effort = QUICK if options.quick else Effort(samples=options.samples)
    more = {"inductor": options.inductor} if name in WITH_INDUCTOR else {}
    for case in CASES[name](options.quick, **more):
        for threads in options.threads:
            yield from result_of(case, threads, effort)


def result_of(case: Case, threads: int, effort: Effort) -> list[Result]:
    """The results of a case. Where the peer itself fails, that is the result."""
    try:
        return measure(case, threads, effort)
    except Exception as error:
        return [Result.failed(case, threads, next(iter(case.arms)), said(error))]


def main(given: list[str] | None = None) -> int:
    options = arguments(given)
    if not hasattr(torch, "rustorch"):
        print("the device is not loaded: `python -m rustorch_device.backend_check` says why", file=sys.stderr)
        return 1
    from . import roofline

    torch.manual_seed(0)
    results: list[Result] = []
    roofs = roofline.measured(options.threads)
    print(HEADING)
    for name in options.only or (WHOLE if options.peers else BENCHES):
        roofs = roofline.higher(roofs, roofline.measured(options.threads))
        for result in measured(name, options):
            results.append(roofline.with_share(result, roofs))
            show(results[-1])
        results = [roofline.with_share(result, roofs) for result in results]
        if options.keep:
            # After each bench: a run that is ended early has measured what came before.
            print(f"kept in {records.Record.of(results, roofs).save()}")
    for count, roof in roofs.items():
        print(f"the roof, {count} threads: {roof.flops / 1e9:.0f} GFLOP/s, {roof.bytes / 1e9:.1f} GB/s")
    for line in geometric_means(results):
        print(line)
    if options.json:
        write_json(results, options.json)
    if options.write:
        render.write(options.write)
    if options.plot:
        plot.draw(results, options.plot)
    failed = failures(results)
    print(*failed, sep="\n", end="\n" if failed else "", file=sys.stderr)
    return int(any(result.failure and result.arm not in PEERS for result in results))


if __name__ == "__main__":
    sys.exit(main())
