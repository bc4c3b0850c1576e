"""Results that are kept: a file for each processor and day, since figures of one processor say nothing of another."""

import datetime
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from .harness import Result

FOLDER = Path(__file__).parent / "results"


def cpuinfo(text: str | None = None) -> dict[str, str]:
    """What the system says of its first processor."""
    text = Path("/proc/cpuinfo").read_text() if text is None else text
    fields = (line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in fields}


def processor(text: str | None = None) -> str:
    """Vendor, family, model and SIMD level: names such as "AMD EPYC" stand for several generations."""
    from rustorch_device import _C

    known = cpuinfo(text)
    return "-".join([*(known.get(name, "unknown") for name in ("vendor_id", "cpu family", "model")), _C.simd_level()])


def commit() -> str:
    """The commit that was measured, with a plus where the tree differs from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=FOLDER.parent, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


@dataclass
class Record:
    """What was measured, on what, and when."""

    processor: str
    cores: int
    commit: str
    date: str
    torch: str
    python: str
    results: list[Result]

    @classmethod
    def of(cls, results: list[Result]) -> "Record":
        cores = len(os.sched_getaffinity(0))
        today = datetime.date.today().isoformat()
        return cls(processor(), cores, commit(), today, torch.__version__, platform.python_version(), results)

    @classmethod
    def load(cls, path: Path) -> "Record":
        """Raises ValueError for a file that is none."""
        try:
            fields = json.loads(path.read_text())
            return cls(**{**fields, "results": [Result(**result) for result in fields["results"]]})
        except (TypeError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not a record of benches.run --keep ({error})") from None

    def save(self, folder: Path = FOLDER) -> Path:
        """Writes `PROCESSOR/DATE.json`, over an earlier one of the day; gives its path."""
        path = folder / self.processor / f"{self.date}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return path
