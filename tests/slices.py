"""Which part of what is too long for `make test` a commit runs: another for each commit, and the same one again.

`make nightly` runs all of it.
"""

import os
import subprocess
import zlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Names the part, so that a failure repeats; where it is not set, the commit does.
VARIABLE = "RUSTORCH_SLICE"


@cache
def seed() -> int:
    """The number that chooses: of the environment, of the commit, or 0 outside of a repository."""
    given = os.environ.get(VARIABLE)
    if given:
        return int(given)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return int(head.stdout[:6], 16) if head.returncode == 0 else 0


def is_chosen(name: str, slices: int, number: int | None = None) -> bool:
    """Whether the slice has what is called so: the commit's, or the one with a number."""
    return zlib.crc32(name.encode()) % slices == (seed() if number is None else number) % slices


def header() -> str:
    """What a run of the tests says first."""
    return f"slice of the databases and models: {VARIABLE}={seed()} repeats it"
