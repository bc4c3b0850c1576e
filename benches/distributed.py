"""Training steps of two processes of one thread each, on the device beside the CPU: `python -m benches.distributed`.

Both talk through gloo. The processes go through the arms together: every step ends with a collective, so that each
waits for the other, and the times are those of both.
"""

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from .compile import mlp
from .harness import Arm, Case, Effort, Result, measure
from .run import show
from .training import Net

RANKS = 2
#: A step a sample, and as many in each process: neither may stop before the other.
STEPS, QUICK_STEPS = 30, 3


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)


MODELS = {
    "MLP, batch 64": (mlp, (64, 784)),
    "MNIST CNN, batch 32": (Net, (32, 1, 28, 28)),
    "transformer, batch 8 of 64": (transformer, (8, 64, 128)),
}


def replicated(model: nn.Module, device: str, backend: str | None) -> nn.Module:
    # Before it is wrapped: Dynamo runs torch.nn's own containers eagerly inside of the wrapper.
    return DistributedDataParallel(model if backend is None else torch.compile(model, backend=backend))


def sharded(model: nn.Module, device: str, backend: str | None) -> nn.Module:
    mesh = init_device_mesh(device, (RANKS,))
    for layer in model.layers if isinstance(model, nn.TransformerEncoder) else model.children():
        if any(True for _ in layer.parameters()):
            if backend is not None:
                layer.compile(backend=backend)
            fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def step(name: str, spread: Callable[..., nn.Module], device: str, backend: str | None) -> Arm:
    make, sizes = MODELS[name]
    torch.manual_seed(0)
    model = spread(make().to(device), device, backend)
    torch.manual_seed(1 + dist.get_rank())
    x = torch.randn(sizes).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def one() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        # Each rank's time is that of the slower one.
        dist.barrier()
        return loss.detach()

    return one


def cases(quick: bool) -> Iterator[Case]:
    for name in list(MODELS)[: 1 if quick else None]:
        for kind, spread in (("DDP", replicated), ("FSDP2", sharded)):
            torch._dynamo.reset()
            arms = {
                "cpu": step(name, spread, "cpu", None),
                "rustorch": step(name, spread, "rustorch", None),
                "rust_backend": step(name, spread, "rustorch", "rust_backend"),
            }
            yield Case("distributed", f"{kind}, {name}", arms)


def work(rank: int, options: argparse.Namespace, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    steps = QUICK_STEPS if options.quick else STEPS
    effort = Effort(samples=steps, sample_seconds=0.0, case_seconds=math.inf)
    results: list[Result] = []
    if rank == 0:
        print(f"{'case':<52} t {'arm':<24} {'best µs':>12} {'median µs':>12} {'ratio':>8} {'(median)':>8}")
    for case in cases(options.quick):
        for result in measure(case, 1, effort):
            results.append(result)
            if rank == 0:
                show(result)
    if rank == 0 and options.json:
        options.json.write_text(json.dumps([result.to_dict() for result in results], indent=1))
    dist.destroy_process_group()
    failed = [f"{result.case}, {result.arm}: {result.failure}" for result in results if result.failure]
    if failed:
        sys.exit("\n".join(failed))


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.distributed", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one model and few steps: to see that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every result there")
    options = parser.parse_args(given)
    # Before OpenMP starts: it would spin on the other process' core.
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(work, (options, folder), nprocs=RANKS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
