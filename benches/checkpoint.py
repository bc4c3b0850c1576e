"""Saving and loading against plain file calls on the same bytes: `python -m benches.checkpoint`.

Both sides flush what they write to the disk; both read from the page cache. `--folder` names the disk.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

import rustorch_device
from rustorch_device.checkpoint import load, load_tensors, save, save_tensors

from .harness import Case, Effort, measure
from .render import table

TENSORS = 64
PLAIN = "plain file calls"


def write_plainly(path: Path, data: memoryview) -> None:
    with open(path, "wb", buffering=0) as file:
        written = 0
        while written < len(data):
            written += file.write(data[written:])
        os.fsync(file.fileno())


def read_plainly(path: Path, into: torch.Tensor) -> None:
    memory = memoryview(into.numpy())
    with open(path, "rb", buffering=0) as file:
        done = 0
        while count := file.readinto(memory[done:]):
            done += count


def cases(folder: Path, mib: int) -> Iterator[Case]:
    model = nn.ParameterList(torch.randn(mib * 2**20 // 4 // TENSORS) for _ in range(TENSORS)).to("rustorch")
    tensors = {name: parameter.detach() for name, parameter in model.named_parameters()}
    data = torch.cat([rustorch_device.alias(tensor) for tensor in tensors.values()]).view(torch.uint8)
    ours, plain = folder / "ours.safetensors", folder / "plain"
    memory = torch.empty_like(data)
    yield Case(
        "checkpoint",
        f"write {mib} MiB and flush",
        {
            PLAIN: lambda: write_plainly(plain, memoryview(data.numpy())),
            "save_tensors": lambda: save_tensors(ours, tensors),
            "save(model=)": lambda: save(ours, model=model),
        },
        tolerance=None,
    )
    yield Case(
        "checkpoint",
        f"read {mib} MiB to fresh memory",
        {
            PLAIN: lambda: read_plainly(plain, torch.empty_like(data)),
            "load_tensors": lambda: load_tensors(ours, device="rustorch", names=list(tensors)),
        },
        tolerance=None,
    )
    yield Case(
        "checkpoint",
        f"read {mib} MiB in place",
        {PLAIN: lambda: read_plainly(plain, memory), "load(model=)": lambda: load(ours, model=model)},
        tolerance=None,
    )
    yield Case(
        "checkpoint",
        f"map {mib} MiB",
        {
            PLAIN: lambda: read_plainly(plain, memory),
            "load_tensors(mmap=True)": lambda: load_tensors(ours, device="rustorch", names=list(tensors), mmap=True),
            "load(model=, mmap=True)": lambda: load(ours, model=model, mmap=True),
        },
        tolerance=None,
    )


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.checkpoint", description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--folder", type=Path, help="where to write; default: the system's for temporary files")
    parser.add_argument("--samples", type=int, default=7)
    options = parser.parse_args(given)
    effort = Effort(samples=options.samples, case_seconds=120.0, fewest=options.samples)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        results = [
            result
            for case in cases(Path(folder), options.mib)
            for result in measure(case, torch.get_num_threads(), effort)
        ]
    print("\n".join(table(results, "checkpoint")))
    return int(any(result.failure for result in results))


if __name__ == "__main__":
    sys.exit(main())
