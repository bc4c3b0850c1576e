"""Writes results as Markdown between the marks of a page."""

import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import torch

from .harness import Result
from .records import cpuinfo

BEGIN, END = "<!-- begin results -->", "<!-- end results -->"


def machine() -> str:
    try:
        model = cpuinfo().get("model name", "unknown processor")
    except OSError:
        model = "unknown processor"
    return f"{model}, {os.cpu_count()} cores"


def duration(microseconds: float) -> str:
    if math.isnan(microseconds):
        return "-"
    if microseconds < 100:
        return f"{microseconds:.2f} µs"
    return f"{microseconds:.0f} µs" if microseconds < 10_000 else f"{microseconds / 1000:.1f} ms"


def ratio(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def table(results: list[Result]) -> Iterator[str]:
    """One line a case, arm and thread count."""
    yield "| case | threads | arm | best | peer's best | ratio of bests | ratio of medians |"
    yield "|---|---|---|---|---|---|---|"
    peers = {(r.case, r.threads): r for r in results if r.arm == r.peer}
    for r in results:
        if r.arm == r.peer:
            continue
        peer = duration(peers[r.case, r.threads].best_us)
        best = r.failure or duration(r.best_us) + (" (falls back)" if r.fallbacks else "")
        yield (
            f"| {r.case} | {r.threads} | {r.arm} | {best} | {peer} | {ratio(r.ratio_best)} | {ratio(r.ratio_median)} |"
        )


def section(results: list[Result], command: str, simd_level: str) -> str:
    lines = [
        f"Measured by `{command}` on {machine()}, SIMD level {simd_level}, "
        f"torch {torch.__version__}, Python {platform.python_version()}. The peer is PyTorch's eager CPU, "
        "in the same process and taken in turns. A ratio is the peer's time divided by the arm's: above 1, "
        'the arm is faster. "Falls back": the op has no Rust kernel, and ran on PyTorch\'s.',
    ]
    for bench in dict.fromkeys(result.bench for result in results):
        lines += ["", f"### {bench}", "", *table([result for result in results if result.bench == bench])]
    return "\n".join(lines)


def write(page: Path, text: str) -> None:
    """Puts the text between the marks, and leaves the rest of the page alone."""
    old = page.read_text()
    if BEGIN not in old or END not in old:
        raise ValueError(f"{page} lacks the lines {BEGIN} and {END}")
    head, tail = old.split(BEGIN)[0], old.split(END)[1]
    page.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")
