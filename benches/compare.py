"""Compares two records of one processor, row by row: `python -m benches.compare OLD NEW`; exits with 1 where a row is
slower beyond noise."""

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .harness import Result
from .peers import is_ours
from .records import Record

#: A row is slower where both its ratios to the peer, of bests and of medians, fell by more than this.
NOISE = 0.03


@dataclass
class Change:
    """A row of both records: how many times as fast it is now, measured beside the peer of its own run."""

    row: str
    best: float
    median: float

    @property
    def is_slower(self) -> bool:
        return max(self.best, self.median) < 1 - NOISE

    @property
    def is_faster(self) -> bool:
        return min(self.best, self.median) > 1 + NOISE


def rows(record: Record) -> dict[str, Result]:
    """Our arms by name: how fast others are is not ours to keep."""
    measured = [result for result in record.results if is_ours(result) and not result.failure]
    return {f"{result.bench}: {result.case}, {result.arm}, {result.threads} threads": result for result in measured}


def changes(old: Record, new: Record) -> Iterator[Change]:
    """Raises ValueError for records of two processors."""
    if old.processor != new.processor:
        raise ValueError(f"the records are of two processors, {old.processor} and {new.processor}")
    before, after = rows(old), rows(new)
    for name in before.keys() & after.keys():
        was, now = before[name], after[name]
        yield Change(name, now.ratio_best / was.ratio_best, now.ratio_median / was.ratio_median)


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.compare", description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    options = parser.parse_args(given)
    try:
        old, new = Record.load(options.old), Record.load(options.new)
        found = sorted(changes(old, new), key=lambda change: change.best)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    for change in found:
        if change.is_slower or change.is_faster:
            word = "slower" if change.is_slower else "faster"
            print(f"{word}: {change.row}: {change.best:.2f} times as fast by bests, {change.median:.2f} by medians")
    lost = sorted(rows(old).keys() - rows(new).keys())
    for row in lost:
        print(f"lost: {row}")
    if found:
        mean = math.exp(sum(math.log(change.best) for change in found) / len(found))
        print(f"{len(found)} rows, geometric mean {mean:.3f} times as fast, {old.commit} to {new.commit}")
    return int(bool(lost) or any(change.is_slower for change in found))


if __name__ == "__main__":
    sys.exit(main())
