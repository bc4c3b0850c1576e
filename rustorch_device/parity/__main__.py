"""`python -m rustorch_device.parity`: compares models on rustorch with eager PyTorch on the CPU.

Exits with 1 where one differs or cannot run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from dataclasses import asdict, replace
from typing import Any

import torch

import rustorch_device  # noqa: F401  loads the device, whatever RUSTORCH_AUTOLOAD says
from rustorch_device.parity import hotspots
from rustorch_device.parity.models import SUITE, Case, from_path
from rustorch_device.parity.run import ARMS, FACTOR, TOLERANCE, Comparison, Tolerance, compare, reference

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in TOLERANCE}


def limit(text: str) -> tuple[str | None, float]:
    """A tolerance from the command line: `0.01` for every dtype, or `bfloat16=0.01` for one."""
    dtype, equals, number = text.rpartition("=")
    if equals and dtype not in DTYPES:
        raise argparse.ArgumentTypeError(f"{dtype!r} is none of {', '.join(DTYPES)}")
    return dtype or None, float(number)


def arguments() -> argparse.Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(prog="python -m rustorch_device.parity", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=SUITE, metavar="NAME", help=f"of {', '.join(SUITE)}")
    parser.add_argument("--module", action="append", metavar="PACKAGE.MODULE:FACTORY", help="a model of your own")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=["float32"])
    limits = {
        "rtol": "relative tolerance, instead of the dtype's",
        "atol": "absolute tolerance, instead of the dtype's",
        "norm": "tolerance of gradients and trained parameters, by their norm",
        "corner": "the same for models whose gradients jump, as at a ReLU's corner",
    }
    for name, meaning in limits.items():
        parser.add_argument(
            f"--{name}",
            nargs="+",
            type=limit,
            default=[],
            metavar="[DTYPE=]NUMBER",
            help=f"{meaning}; for one dtype or all",
        )
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument(
        "--hotspots", type=int, default=3, metavar="COUNT", help="nodes to name for a model that differs"
    )
    parser.add_argument("--json", metavar="FILE", help="write the whole report there")
    return parser.parse_args()


def verdict(agrees: bool, worst: float) -> str:
    """The table's word for an error."""
    return f"{'ok' if agrees else 'DIFFERS'} {worst:.2g}"


def cell(comparison: Comparison) -> str:
    """An arm's cell of the table."""
    return "ERROR" if comparison.error else verdict(comparison.agrees, comparison.worst)


def print_row(cells: list[str], widths: list[int]) -> None:
    """One line of the table."""
    print("  ".join(text.ljust(width) for text, width in zip(cells, widths, strict=True)).rstrip(), flush=True)


def tolerance_of(name: str, options: argparse.Namespace) -> Tolerance:
    """The dtype's tolerance, with what the command line says of it."""
    tolerance = TOLERANCE[DTYPES[name]]
    for limit in ("rtol", "atol", "norm", "corner"):
        for dtype, value in getattr(options, limit):
            if dtype in (None, name):
                tolerance = replace(tolerance, **{limit: value})
    return tolerance


def compare_models(name: str, options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Compares the models in one dtype; the report, and whether all agree."""
    dtype, tolerance = DTYPES[name], tolerance_of(name, options)
    names = options.models or ([] if options.module else list(SUITE))
    widths = [16, *(16 for _ in ["nodes", *options.arms]), 8]
    limits = ", ".join(f"{limit} {value:g}" for limit, value in asdict(tolerance).items())
    print(f"Largest error in units of what is allowed ({limits}, and {FACTOR:g} times the CPU's own error), {name}")
    print_row(["model", "nodes", *options.arms, "seconds"], widths)
    report: dict[str, Any] = {**asdict(tolerance), "models": {}}
    notes: list[str] = []
    fallbacks: Counter[str] = Counter()
    failed = False
    for model in [*names, *(options.module or [])]:
        start = time.perf_counter()
        torch.manual_seed(0)
        case: Case = SUITE[model]() if model in SUITE else from_path(model)
        expected = reference(case, dtype)
        comparisons = {arm: compare(case, arm, expected, dtype, tolerance) for arm in options.arms}
        spots = hotspots.find(case, dtype, tolerance, options.hotspots)
        worst = spots[0].error if spots else 0.0
        cells = [verdict(worst <= 1, worst), *(cell(comparison) for comparison in comparisons.values())]
        print_row([model, *cells, f"{time.perf_counter() - start:.1f}"], widths)
        if worst > 1 or not all(comparison.agrees for comparison in comparisons.values()):
            failed = True
            notes += [f"{model}: node {spot.node} on {spot.shapes}: {spot.error:.2g}" for spot in spots]
        for arm, comparison in comparisons.items():
            fallbacks.update(comparison.fallbacks)
            notes += remarks(f"{model}, {arm}", comparison)
        arms = {arm: {**asdict(comparison), "agrees": comparison.agrees} for arm, comparison in comparisons.items()}
        report["models"][model] = {"arms": arms, "hotspots": [asdict(spot) for spot in spots]}
    print(*notes, sep="\n", end="\n" if notes else "")
    if fallbacks:
        print("without a Rust kernel:", ", ".join(f"{op} x{count}" for op, count in fallbacks.most_common()))
    return report, failed


def remarks(where: str, comparison: Comparison) -> list[str]:
    """Lines below the table about one arm of a model."""
    lines = []
    if comparison.error:
        lines.append(f"{where}: {comparison.error}")
    elif not comparison.agrees:
        lines.append(f"{where}: {comparison.where} differs by {comparison.worst:.2g} times what is allowed")
    if comparison.graph_breaks:
        lines.append(f"{where}: {comparison.graph_breaks} graph breaks")
    lines += [f"{where}: {target} ran outside of Rust: {reason}" for target, reason in comparison.outside.items()]
    return lines


def main() -> int:
    """Runs the comparison; the exit code."""
    options = arguments()
    results = {name: compare_models(name, options) for name in options.dtype}
    if options.json:
        with open(options.json, "w") as file:
            json.dump({name: report for name, (report, _) in results.items()}, file, indent=1)
    return int(any(failed for _, failed in results.values()))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
