"""Pipelines: a stage of the model in each process."""

import itertools
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

SCHEDULES = {"GPipe": ScheduleGPipe, "1F1B": Schedule1F1B}
MICROBATCHES = 4


def _layers() -> list[nn.Sequential]:
    torch.manual_seed(0)
    sizes = [6, 16, 8, 3]
    return [nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in itertools.pairwise(sizes)]


def _batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(8, 6, generator=generator), torch.randn(8, 3, generator=generator)) for _ in range(3)]


def whole() -> list[torch.Tensor]:
    """The parameters of the model that one process trains."""
    model = nn.Sequential(*_layers())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, target in _batches():
        # A schedule takes the mean over microbatches of one size.
        nn.functional.mse_loss(model(x), target).backward()
        optimizer.step()
        optimizer.zero_grad()
    return [parameter.detach() for parameter in model.parameters()]


def staged(schedule: str) -> list[torch.Tensor]:
    """The same, each rank's stage trained on the device."""
    rank, world = dist.get_rank(), dist.get_world_size()
    layers = _layers()
    # The first stage has what is left over.
    parts = [nn.Sequential(*layers[: len(layers) - world + 1]), *layers[len(layers) - world + 1 :]]
    module = parts[rank].to("rustorch")
    stage = PipelineStage(module, rank, world, torch.device("rustorch"))
    steps: Any = SCHEDULES[schedule](stage, MICROBATCHES, loss_fn=nn.functional.mse_loss)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for x, target in _batches():
        losses: list[torch.Tensor] = []
        given = (x.to("rustorch"),) if rank == 0 else ()
        options = {"target": target.to("rustorch"), "losses": losses} if rank == world - 1 else {}
        steps.step(*given, **options)
        assert len(losses) == (MICROBATCHES if rank == world - 1 else 0)
        optimizer.step()
        optimizer.zero_grad()
    gathered: list[Any] = [None] * world
    dist.all_gather_object(gathered, [parameter.detach().cpu() for parameter in module.parameters()])
    return [parameter for each in gathered for parameter in each]


def all_staged() -> dict[str, list[torch.Tensor]]:
    return {"whole": whole(), **{name: staged(name) for name in SCHEDULES}}


def sampled() -> list[list[int]]:
    """The samples of this rank in two epochs, through the device."""
    data = torch.utils.data.TensorDataset(torch.arange(10))
    sampler = torch.utils.data.DistributedSampler(data, shuffle=True, seed=3)
    loader = torch.utils.data.DataLoader(data, batch_size=2, sampler=sampler)
    epochs = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        epochs.append([value for (batch,) in loader for value in batch.to("rustorch").tolist()])
    return epochs
