"""Results that are kept: a file for each processor and day, since figures of one processor say nothing of another."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from rustorch_device.profiler import Roofline

from .harness import Result

FOLDER = Path(__file__).parent / "results"
#: Packages whose arms are among the results.
PEERS = ("onnxruntime", "openvino", "transformers")
#: Digits that are kept of a float: more than a time has.
DIGITS = 5


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


def versions() -> dict[str, str]:
    """Of the peers that are installed."""
    found = {}
    for package in PEERS:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def row(result: Result) -> str:
    """A result in a line, without what it does not have."""
    kept = {
        name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for name, value in result.to_dict().items()
        if value not in ("", [], 0.0, None) or name in ("samples", "best_us")
    }
    return json.dumps(kept, ensure_ascii=False)


def commit() -> str:
    """The commit that was measured, with a plus where the tree differs from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=FOLDER.parent, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    # What a run itself writes makes no other tree of it.
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":!results", ":!../docs")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


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
    # What people call the processor, which stands for several generations.
    called: str = "unknown processor"
    # FLOP/s and bytes/s of the machine, by the number of threads.
    roofs: dict[str, dict[str, float]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, results: list[Result], roofs: dict[int, Roofline]) -> "Record":
        cores = len(os.sched_getaffinity(0))
        today = datetime.date.today().isoformat()
        software = (torch.__version__, platform.python_version())
        called = cpuinfo().get("model name", "unknown processor")
        limits = {str(count): asdict(roof) for count, roof in roofs.items()}
        return cls(processor(), cores, commit(), today, *software, results, called, limits, versions())

    @classmethod
    def load(cls, path: Path) -> "Record":
        """Raises ValueError for a file that is none."""
        try:
            fields = json.loads(path.read_text())
            return cls(**{**fields, "results": [Result(**result) for result in fields["results"]]})
        except (TypeError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not a record of benches.run --keep ({error})") from None

    def with_rows_of(self, other: "Record") -> "Record":
        """With the rows that the other has and this has not."""

        def place(result: Result) -> tuple:
            return result.bench, result.case, result.threads, result.arm

        own = {place(result) for result in self.results}
        others = [result for result in other.results if place(result) not in own]
        return replace(self, results=others + self.results, roofs=other.roofs | self.roofs)

    def save(self, folder: Path = FOLDER) -> Path:
        """Writes `PROCESSOR/DATE.json`, and gives its path.

        What was measured earlier on the day, of the same commit, stays there; of another commit it is written over.
        """
        path = folder / self.processor / f"{self.date}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        saved = self
        if path.exists() and (earlier := Record.load(path)).commit == self.commit:
            saved = self.with_rows_of(earlier)
        rows = ",\n".join(map(row, saved.results))
        head = json.dumps({**vars(saved), "results": []}, indent=1)
        path.write_text(head.replace('"results": []', f'"results": [\n{rows}\n ]') + "\n")
        return path


def newest(folder: Path = FOLDER) -> list[Record]:
    """The last record of each processor."""
    return [Record.load(max(kept.glob("*.json"))) for kept in sorted(folder.glob("*")) if any(kept.glob("*.json"))]
