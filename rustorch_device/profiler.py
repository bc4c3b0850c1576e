"""Which Rust kernels take the time: a table of what each took, against what the machine could do.

`torch.profiler` shows the same kernels one by one, on a timeline (`rustorch_device._torch_profiler`).
"""

from __future__ import annotations

import atexit
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rustorch_device import _C

#: The widest that a name or a list of lines is shown.
WIDEST = 44


@dataclass(frozen=True)
class Roofline:
    """What the machine can do at most, with its threads and SIMD level."""

    flops: float  #: multiplications and additions of float32, a second
    bytes: float  #: bytes to and from memory, a second


@dataclass(frozen=True)
class Kernel:
    """Sums over the launches of one kernel."""

    name: str
    source: str  #: the nodes of a compiled graph that it came from, with the user's lines; else empty
    calls: int
    seconds: float
    bytes: int
    flops: int

    def roof(self, roofline: Roofline) -> float:
        """The share of the roofline: the least time that its arithmetic and its bytes need, by its time."""
        least = max(self.flops / roofline.flops, self.bytes / roofline.bytes)
        return least / self.seconds if self.seconds else 0.0

    @property
    def origin(self) -> str:
        """The user's lines that it came from, short (`model.py:12`); the nodes where no line is known."""
        places = re.findall(r'File "(.*?)", line (\d+)', self.source)
        lines = dict.fromkeys(f"{os.path.basename(path)}:{line}" for path, line in places)
        return ", ".join(lines or re.findall(r"(?:^|; )(\w+) \(", self.source))


@dataclass
class Profile:
    """What kernels took in a `with` block. Prints as a table, once the block has ended."""

    kernels: list[Kernel] = field(default_factory=list)  #: the longest first
    seconds: float = 0.0  #: of the whole block

    def table(self, limit: int | None = 30) -> str:
        """The table of the first `limit` kernels, with the sums of all."""
        if not self.kernels:
            return "no Rust kernel ran"
        roofline = Roofline(*_C.roofline())
        whole = sum(kernel.seconds for kernel in self.kernels)
        head = ("kernel", "calls", "total ms", "mean µs", "share", "GFLOP/s", "GB/s", "roof", "from")
        rows = [head, *(_row(kernel, whole, roofline) for kernel in self.kernels[:limit])]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = []
        for name, *numbers, source in rows:
            cells = [number.rjust(width) for number, width in zip(numbers, widths[1:-1], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *cells, source]).rstrip())
        left_out = len(self.kernels) - len(rows) + 1
        if left_out > 0:
            lines.append(f"and {left_out} more")
        lines.append(
            f"kernels: {whole * 1e3:.2f} ms of {self.seconds * 1e3:.2f} ms ({whole / self.seconds:.0%}); "
            f"roof: {roofline.flops / 1e9:.0f} GFLOP/s of float32, {roofline.bytes / 1e9:.1f} GB/s to memory"
        )
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()


def _row(kernel: Kernel, whole: float, roofline: Roofline) -> tuple[str, ...]:
    return (
        _short(kernel.name),
        str(kernel.calls),
        f"{kernel.seconds * 1e3:.2f}",
        f"{kernel.seconds / kernel.calls * 1e6:.1f}",
        f"{kernel.seconds / whole:.1%}" if whole else "",
        f"{kernel.flops / kernel.seconds / 1e9:.1f}" if kernel.flops and kernel.seconds else "",
        f"{kernel.bytes / kernel.seconds / 1e9:.1f}" if kernel.seconds else "",
        f"{kernel.roof(roofline):.0%}",
        _short(kernel.origin),
    )


def _short(text: str) -> str:
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


class _Watch:
    """A profile being taken: the difference of Rust's sums between its end and its beginning."""

    def __init__(self) -> None:
        self.before = _totals()
        self.began = time.perf_counter()
        _C.profile_start()

    def stop(self, profile: Profile) -> None:
        _C.profile_stop()
        profile.seconds = time.perf_counter() - self.began
        kernels = []
        for (name, source), after in _totals().items():
            before = self.before.get((name, source), (0, 0, 0, 0))
            calls, nanoseconds, moved, flops = (now - then for now, then in zip(after, before, strict=True))
            if calls:
                kernels.append(Kernel(name, source, calls, nanoseconds / 1e9, moved, flops))
        profile.kernels = sorted(kernels, key=lambda kernel: -kernel.seconds)


def _totals() -> dict[tuple[str, str], tuple[int, ...]]:
    return {(name, source): tuple(numbers) for name, source, *numbers in _C.profile_totals()}


@contextmanager
def profile(*, show: bool = True, limit: int | None = 30) -> Iterator[Profile]:
    """Watches the Rust kernels of a `with` block, of all threads, eager and compiled.

    Args:
        show: prints the table at the end of the block.
        limit: how many kernels it shows; None for all.

    Yields:
        The profile, which is filled at the end of the block.
    """
    taken = Profile()
    watch = _Watch()
    try:
        yield taken
    finally:
        watch.stop(taken)
    if show:
        print(taken.table(limit))


def profile_process() -> None:
    """Watches from now on, and prints the table to stderr when the process ends (`RUSTORCH_PROFILE=1`)."""
    taken = Profile()
    watch = _Watch()

    def report() -> None:
        watch.stop(taken)
        print(taken, file=sys.stderr)

    atexit.register(report)
