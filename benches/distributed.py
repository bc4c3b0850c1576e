"""Training steps of two processes of one thread each, on the device beside the CPU: `python -m benches.distributed`.

Both talk through gloo. The processes go through the arms together: the collectives of a step make each wait for the
other, and the times are those of rank 0. Before them, one process alone trains the same models, while the other
waits: what several processes cost the device is its ratio to the CPU in two, divided by that alone.
"""

import argparse
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
from .run import HEADING, failures, show, write_json
from .training import Net

RANKS = 2
#: Each arm in turn, after a pause and a step that is not measured; as many steps in each process, whatever they take.
EFFORT = Effort(samples=25, calls=5, case_seconds=math.inf, pause_seconds=0.02)
QUICK = Effort(samples=2, calls=1, case_seconds=math.inf, pause_seconds=0.02)


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)


MODELS = {
    "MLP, batch 64": (mlp, (64, 784)),
    "MNIST CNN, batch 32": (Net, (32, 1, 28, 28)),
    "transformer, batch 8 of 64": (transformer, (8, 64, 128)),
}


def alone(model: nn.Module, device: str, backend: str | None) -> nn.Module:
    return model if backend is None else torch.compile(model, backend=backend)


def replicated(model: nn.Module, device: str, backend: str | None) -> nn.Module:
    # Compiled before it is wrapped: Dynamo runs torch.nn's own containers eagerly inside of the wrapper.
    return DistributedDataParallel(alone(model, device, backend))


def sharded(model: nn.Module, device: str, backend: str | None) -> nn.Module:
    mesh = init_device_mesh(device, (RANKS,))
    for layer in model.layers if isinstance(model, nn.TransformerEncoder) else model.children():
        if any(True for _ in layer.parameters()):
            if backend is not None:
                layer.compile(backend=backend)
            fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


#: The first is what rank 0 does by itself.
SPREADS = {"alone": alone, "DDP": replicated, "FSDP2": sharded}


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
        return loss.detach()

    return one


def case(kind: str, name: str) -> Case:
    torch._dynamo.reset()
    arms = {
        "cpu": step(name, SPREADS[kind], "cpu", None),
        "rustorch": step(name, SPREADS[kind], "rustorch", None),
        "rust_backend": step(name, SPREADS[kind], "rustorch", "rust_backend"),
    }
    return Case("distributed", f"{kind}, {name}", arms)


def beside_one_process(results: list[Result]) -> Iterator[str]:
    """A line for each arm in two processes: its ratio to the CPU, divided by that of one process."""
    ratios = {(result.case, result.arm): result for result in results}
    for result in results:
        kind, model = result.case.split(", ", 1)
        single = ratios.get((f"alone, {model}", result.arm))
        if kind != "alone" and result.arm != result.peer and single is not None:
            best, median = result.ratio_best / single.ratio_best, result.ratio_median / single.ratio_median
            yield f"{result.case}, {result.arm}: {best:.2f} of the ratio of one process, {median:.2f} by medians"


def work(rank: int, options: argparse.Namespace, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    results: list[Result] = []
    if rank == 0:
        print(HEADING)
    for name in list(MODELS)[: 1 if options.quick else None]:
        for kind in SPREADS:
            if kind != "alone" or rank == 0:
                for result in measure(case(kind, name), 1, QUICK if options.quick else EFFORT):
                    results.append(result)
                    if rank == 0:
                        show(result)
            dist.barrier()
    if rank == 0:
        print(*beside_one_process(results), sep="\n")
        if options.json:
            write_json(results, options.json)
    dist.destroy_process_group()
    if failed := failures(results):
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
