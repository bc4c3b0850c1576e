"""Training in several processes, on a device."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel


def _model(device: str) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)).to(device)


def _batches(device: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1 + dist.get_rank())
    return [
        (torch.randn(5, 6, generator=generator).to(device), torch.randint(3, (5,), generator=generator).to(device))
        for _ in range(4)
    ]


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).float().cpu()


def _trained(model: nn.Module, device: str, **options: Any) -> list[torch.Tensor]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, **options)
    losses = []
    for x, target in _batches(device):
        loss = nn.functional.cross_entropy(model(x).float(), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach().cpu())
    return [torch.stack(losses), *(_whole(parameter) for parameter in model.parameters())]


def _replicated(device: str, **options: Any) -> list[torch.Tensor]:
    return _trained(DistributedDataParallel(_model(device), **options), device)


def _accumulated(device: str) -> list[torch.Tensor]:
    model = DistributedDataParallel(_model(device))
    batches = _batches(device)
    with model.no_sync():
        model(batches[0][0]).sum().backward()
    model(batches[1][0]).sum().backward()
    return [_whole(parameter.grad) for parameter in model.parameters()]


def _hooked(device: str) -> list[torch.Tensor]:
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

    model = DistributedDataParallel(_model(device))
    model.register_comm_hook(None, fp16_compress_hook)
    return _trained(model, device)


def _compiled(device: str) -> list[torch.Tensor]:
    return _trained(torch.compile(DistributedDataParallel(_model(device)), backend="rust_backend"), device)


def _sharded(device: str, **options: Any) -> list[torch.Tensor]:
    model = _model(device)
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh, **options)
    return _trained(fully_shard(model, mesh=mesh, **options), device)


def _parallel(device: str) -> list[torch.Tensor]:
    model = _model(device)
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    return _trained(model, device, foreach=False)


def _tensors(device: str) -> list[torch.Tensor]:
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(6, 8, generator=generator).to(device) for _ in range(2))
    mine, theirs = distribute_tensor(a, mesh, [Shard(0)]), distribute_tensor(b, mesh, [Shard(1)])
    turned = mine.redistribute(mesh, [Replicate()])
    return [_whole(x) for x in (mine + 1, turned @ theirs.t(), mine.sum(), theirs.softmax(0))]


TRAININGS: dict[str, Callable[[str], list[torch.Tensor]]] = {
    "DDP": _replicated,
    "DDP in small buckets": lambda device: _replicated(device, bucket_cap_mb=0.0005),
    "DDP of a static graph": lambda device: _replicated(device, static_graph=True),
    "DDP that looks for unused parameters": lambda device: _replicated(device, find_unused_parameters=True),
    "DDP that accumulates": _accumulated,
    "DDP with a hook": _hooked,
    "DDP compiled": _compiled,
    "FSDP2": _sharded,
    "FSDP2 kept whole": lambda device: _sharded(device, reshard_after_forward=False),
    "FSDP2 in bf16": lambda device: _sharded(device, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16)),
    "tensor parallel": _parallel,
    "DTensor": _tensors,
}


def trainings() -> dict[str, dict[str, Any]]:
    """By training, then by device: the values, or the exception."""
    found: dict[str, dict[str, Any]] = {}
    for name, training in TRAININGS.items():
        found[name] = {}
        for device in ("cpu", "rustorch"):
            try:
                found[name][device] = training(device)
            except Exception as error:
                found[name][device] = f"{type(error).__name__}: {error}"
    return found
