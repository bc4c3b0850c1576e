"""Batches of programs, each in a process of its own: one that dies or hangs is told with the program that it ran."""

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzz.arms import Arm
from fuzz.programs import Program
from fuzz.script import as_script
from fuzz.search import search

#: The bytes of address space that a batch may have, of which a usual one takes a third: past them an allocation fails,
#: and the program that made it is told, where the machine's memory would else end it.
MOST_MEMORY = 16 << 30


@dataclass
class Result:
    """What a batch did: the text of a failure, or how many programs agreed."""

    programs: int = 0
    excused: int = 0
    failure: str = ""


def run_here(examples: int, seed: int, arms: Sequence[Arm], strides: bool, folder: Path) -> None:
    """The child's part: leaves its result in the folder, and in it too each program before it runs."""

    def before(program: Program, arm: Arm) -> None:
        (folder / "program.py").write_text(as_script(program, arm))

    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, resource.RLIM_INFINITY))
    summary = search(examples, seed, arms, before, strides)
    failure = ""
    if summary.failure is not None:
        found = summary.failure
        failure = f"{found}\n\n{as_script(found.program, found.arm, found.found)}"
    result = {"programs": summary.programs, "excused": summary.excused, "failure": failure}
    (folder / "result.json").write_text(json.dumps(result))


def run_batch(command: Sequence[str], timeout: float) -> Result:
    """Runs a batch in a child process.

    Args:
        command: what starts it; the name of a folder for its result is added.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            child = subprocess.run([*command, name], timeout=timeout, check=False, capture_output=True, text=True)
            ended = f"it ended with {child.returncode}" if child.returncode >= 0 else f"signal {-child.returncode}"
            errors = child.stderr
        except subprocess.TimeoutExpired:
            ended, errors = f"it did not end in {timeout:.0f} s", ""
        if (folder / "result.json").exists():
            return Result(**json.loads((folder / "result.json").read_text()))
        last = folder / "program.py"
        program = last.read_text() if last.exists() else "it had not come to a program"
        return Result(failure=f"the process died: {ended}\n{errors[-3000:]}\nits last program:\n\n{program}")


def child_command(examples: int, seed: int, only: str | None, strides: bool) -> list[str]:
    """What starts a batch (`run_batch`)."""
    command = [sys.executable, "-m", "fuzz.run", "--examples", str(examples), "--seed", str(seed)]
    command += ["--only", only] if only else []
    return [*command, *(["--strides"] if strides else []), "--into"]
