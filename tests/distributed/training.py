"""Training in several processes, on a device."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from distributed import sync_batch_norm


class Block(nn.Module):
    """A module of our own: Dynamo compiles no frame of torch.nn's own containers."""

    def __init__(self, inputs: int, outputs: int, activation: nn.Module) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.linear(x))


def _model(device: str, width: int = 16) -> nn.Module:
    torch.manual_seed(0)
    blocks = Block(6, width, nn.GELU()), Block(width, 8, nn.Tanh()), Block(8, 3, nn.Identity())
    return nn.Sequential(*blocks).to(device)


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


def _joined(device: str) -> list[torch.Tensor]:
    """Ranks with batches of different number."""
    model = DistributedDataParallel(_model(device))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    with model.join():
        for x, target in _batches(device)[: 2 + dist.get_rank()]:
            loss = nn.functional.cross_entropy(model(x), target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach().cpu())
    return [torch.stack(losses), *(_whole(parameter) for parameter in model.parameters())]


def _hooked(name: str, device: str) -> list[torch.Tensor]:
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

    model = DistributedDataParallel(_model(device))
    model.register_comm_hook(None, getattr(default_hooks, name))
    return _trained(model, device)


def _approximated(device: str) -> list[torch.Tensor]:
    from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook

    model = DistributedDataParallel(_model(device))
    state = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=2, start_powerSGD_iter=2)
    model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    return _trained(model, device)


def _compiled(make: Callable[[], nn.Module], device: str) -> list[torch.Tensor]:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    results = _trained(make(), device)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    return results


def _compiled_and_replicated(device: str) -> list[torch.Tensor]:
    model = torch.compile(_model(device), backend="rust_backend")
    return _compiled(lambda: DistributedDataParallel(model), device)


def _replicated_and_compiled(device: str) -> list[torch.Tensor]:
    model = DistributedDataParallel(_model(device))
    return _compiled(lambda: torch.compile(model, backend="rust_backend"), device)


def _compiled_and_sharded(device: str) -> list[torch.Tensor]:
    return _compiled(lambda: _shards(device, backend="rust_backend"), device)


def _sharded_and_compiled(device: str) -> list[torch.Tensor]:
    return _compiled(lambda: torch.compile(_shards(device), backend="rust_backend"), device)


def _shards(device: str, backend: str | None = None, **options: Any) -> nn.Module:
    model = _model(device)
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    for block in model:
        if backend is not None:
            block.compile(backend=backend)
        fully_shard(block, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def _sharded(device: str, **options: Any) -> list[torch.Tensor]:
    return _trained(_shards(device, **options), device)


def _offloaded(device: str) -> list[torch.Tensor]:
    """Parameters, gradients and the optimizer on the CPU, beside a model that is there anyway."""
    return _sharded(device, **({} if device == "cpu" else {"offload_policy": CPUOffloadPolicy()}))


def _sharded_and_replicated(device: str) -> list[torch.Tensor]:
    model = _model(device)
    mesh = init_device_mesh(device, (dist.get_world_size(), 1), mesh_dim_names=("replicated", "sharded"))
    return _trained(fully_shard(model, mesh=mesh), device)


def _parallel(device: str) -> list[torch.Tensor]:
    # PyTorch splits a width among ranks whose number divides it.
    model = _model(device, width=12)
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    parallelize_module(model, mesh, {"0.linear": ColwiseParallel(), "1.linear": RowwiseParallel()})
    return _trained(model, device, foreach=False)


def _tensors(device: str) -> list[torch.Tensor]:
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(6, 8, generator=generator).to(device) for _ in range(2))
    mine, theirs = distribute_tensor(a, mesh, [Shard(0)]), distribute_tensor(b, mesh, [Shard(1)])
    turned = mine.redistribute(mesh, [Replicate()])
    return [_whole(x) for x in (mine + 1, turned @ theirs.t(), mine.sum(), theirs.softmax(0))]


BF16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
BF16_REDUCED_IN_F32 = MixedPrecisionPolicy(
    param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.float32
)

TRAININGS: dict[str, Callable[[str], list[torch.Tensor]]] = {
    "DDP": _replicated,
    "DDP in small buckets": lambda device: _replicated(device, bucket_cap_mb=0.0005),
    "DDP of a static graph": lambda device: _replicated(device, static_graph=True),
    "DDP that looks for unused parameters": lambda device: _replicated(device, find_unused_parameters=True),
    "DDP whose gradients are views of buckets": lambda device: _replicated(device, gradient_as_bucket_view=True),
    "DDP that accumulates": _accumulated,
    "DDP of uneven batches": _joined,
    "DDP with a hook": lambda device: _hooked("allreduce_hook", device),
    "DDP with a hook to f16": lambda device: _hooked("fp16_compress_hook", device),
    "DDP with a hook to bf16": lambda device: _hooked("bf16_compress_hook", device),
    "DDP with PowerSGD": _approximated,
    "DDP with SyncBatchNorm": sync_batch_norm.trained,
    "DDP compiled": _replicated_and_compiled,
    "DDP of a compiled model": _compiled_and_replicated,
    "FSDP2": _sharded,
    "FSDP2 kept whole": lambda device: _sharded(device, reshard_after_forward=False),
    "FSDP2 in bf16": lambda device: _sharded(device, mp_policy=BF16),
    "FSDP2 in bf16, reduced in f32": lambda device: _sharded(device, mp_policy=BF16_REDUCED_IN_F32),
    "FSDP2 offloaded": _offloaded,
    "FSDP2 of copies": _sharded_and_replicated,
    "FSDP2 compiled": _sharded_and_compiled,
    "FSDP2 of compiled blocks": _compiled_and_sharded,
    "tensor parallel": _parallel,
    "DTensor": _tensors,
}
#: Those whose numbers are rounded to half types on the way.
ROUNDED = ("DDP with a hook to f16", "DDP with a hook to bf16", "FSDP2 in bf16", "FSDP2 in bf16, reduced in f32")


def trainings(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By training, then by device: the values, or the exception."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        training, found[name] = TRAININGS[name], {}
        for device in ("cpu", "rustorch"):
            try:
                found[name][device] = training(device)
            except Exception as error:
                found[name][device] = f"{type(error).__name__}: {error}"
    return found


def stated() -> dict[str, Any]:
    """What docs/distributed.md says of FSDP2 and of optimizers, found out."""
    found: dict[str, Any] = {}
    shards = fully_shard(nn.Linear(4, 4))
    found["mesh"], found["device"] = shards.weight.device_mesh.device_type, shards.weight.device.type
    for device in ("cpu", "rustorch"):
        sharded = fully_shard(nn.Linear(4, 4).to(device), mesh=init_device_mesh(device, (dist.get_world_size(),)))
        plain = nn.Linear(4, 4).to(device)
        for foreach in (None, False, True):
            optimizer = torch.optim.AdamW([*sharded.parameters(), *plain.parameters()], foreach=foreach)
            plain(sharded(torch.ones(2, 4, device=device))).sum().backward()
            try:
                optimizer.step()
                found[f"{device} {foreach}"] = ""
            except RuntimeError as error:
                found[f"{device} {foreach}"] = str(error)
            optimizer.zero_grad()
    return found
