"""Runs a program of this folder under torchrun."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def torchrun(program: str, world: int, *arguments: str, restarts: int = 0, **environment: str) -> None:
    """`torchrun("resumed.py", 2, "folder", RUSTORCH_AUTOLOAD="0")`; the launcher ends its ranks before it ends."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    command += [f"--max-restarts={restarts}", "--monitor-interval=0.1", str(HERE / program), *arguments]
    launcher = subprocess.Popen(
        command,
        # A rank that aborts says where.
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "PYTHONFAULTHANDLER": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = launcher.communicate(timeout=300)
    finally:
        launcher.terminate()
        launcher.wait(60)
    assert launcher.returncode == 0, output
