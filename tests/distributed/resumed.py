"""A training that torchrun runs: it writes a checkpoint each step, and goes on from the one that it finds.

`resumed.py FOLDER [STEP]`: the last rank of the first start kills itself before that step.
"""

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import rustorch_device

STEPS = 5


def main(folder: Path, killed_at: int | None) -> None:
    dist.init_process_group(timeout=timedelta(seconds=60))
    rank, start = dist.get_rank(), os.environ["TORCHELASTIC_RESTART_COUNT"]
    (folder / f"{start}.{rank}.pid").write_text(str(os.getpid()))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 3))
    # So told, it keeps its buckets. It would order them anew after its first step, that of a restart too, and sums of
    # three ranks are rounded by their place in a bucket: on the CPU the bits differ as well.
    model = DistributedDataParallel(network.to("rustorch"), find_unused_parameters=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    checkpoint, first = folder / "run.safetensors", 0
    if checkpoint.exists():
        first = rustorch_device.load(checkpoint, model=model, optimizer=optimizer).step or 0
    for step in range(first, STEPS):
        if step == killed_at and start == "0" and rank == dist.get_world_size() - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        # Drawn on the device, whose generator's state the checkpoint holds.
        x = torch.randn(4, 6, device="rustorch") * (rank + 1)
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if rank == 0:
            rustorch_device.save(checkpoint, model=model, optimizer=optimizer, step=step + 1)
        dist.barrier()
    if rank == 0:
        weights = {name: value.cpu() for name, value in network.state_dict().items()}
        torch.save({"start": int(start), "first": first, "weights": weights}, folder / "done.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
