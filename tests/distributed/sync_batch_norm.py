"""`SyncBatchNorm` in several processes, beside `BatchNorm` over the whole batch in one."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

#: How many samples each rank has, one after another, for as many ranks as there are.
SPLITS = {"even": (3, 3, 3), "uneven": (4, 1, 2), "with an empty rank": (0, 5, 3)}
LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "dense": lambda x: x,
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
}
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def _norm(dtype: torch.dtype) -> nn.BatchNorm2d:
    generator = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm2d(3)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(3, generator=generator) + 0.5)
        norm.bias.copy_(torch.randn(3, generator=generator))
    # Of half types parameters stay in float, as under autocast.
    return norm.double() if dtype == torch.float64 else norm


def _results(norm: nn.Module, x: torch.Tensor, grad: torch.Tensor) -> dict[str, torch.Tensor]:
    x = x.detach().requires_grad_()
    y = norm(x)
    y.backward(grad)
    gradients = {"gradient": x, **{f"gradient of {name}": parameter for name, parameter in norm.named_parameters()}}
    return {
        "output": y.detach(),
        # Of a rank without samples there are none, which means zeros.
        **{name: torch.zeros_like(of) if of.grad is None else of.grad for name, of in gradients.items()},
        **dict(norm.named_buffers()),
    }


def normalised(dtype: torch.dtype, layout: str, split: str) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """By name: what this rank has, and its part of what one process has that knows the whole batch."""
    rank, world = dist.get_rank(), dist.get_world_size()
    sizes = SPLITS[split][:world]
    generator = torch.Generator().manual_seed(1)
    x, grad = (torch.randn(sum(sizes), 3, 5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    x, grad = (LAYOUTS[layout]((tensor + 0.5).to(dtype)) for tensor in (x, grad))
    mine = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    # In f64, of the same numbers.
    expected = _results(_norm(torch.float64), x.double(), grad.double())
    norm = nn.SyncBatchNorm.convert_sync_batchnorm(_norm(dtype)).to("rustorch")
    actual = _results(norm, x[mine].to("rustorch"), grad[mine].to("rustorch"))
    # As DistributedDataParallel does, a sum in place of its mean.
    for name in ("gradient of weight", "gradient of bias"):
        dist.all_reduce(actual[name])
    return [
        (name, value.cpu(), expected[name][mine] if name in ("output", "gradient") else expected[name])
        for name, value in actual.items()
    ]


def all_normalised() -> dict[str, list[tuple[str, torch.Tensor, torch.Tensor]]]:
    found = {}
    for dtype in DTYPES:
        for layout in LAYOUTS:
            for split in SPLITS:
                # PyTorch gathers statistics of float from the ranks, and of the input's dtype from one without any.
                if dtype in (torch.float32, torch.float64) or split != "with an empty rank":
                    found[f"{dtype} {layout} {split}"] = normalised(dtype, layout, split)
    return found


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def trained(device: str) -> list[torch.Tensor]:
    """Parameters and buffers after some steps: of all ranks together, or of one that has every batch ("cpu")."""
    rank, world = dist.get_rank(), dist.get_world_size()
    model: Any = _network()
    if device == "rustorch":
        model = DistributedDataParallel(nn.SyncBatchNorm.convert_sync_batchnorm(model).to(device))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(2)
    for _ in range(4):
        x = torch.randn(4 * world, 1, 6, 6, generator=generator)
        target = torch.randint(3, (4 * world,), generator=generator)
        mine = slice(4 * rank, 4 * rank + 4) if device == "rustorch" else slice(None)
        nn.functional.cross_entropy(model(x[mine].to(device)), target[mine].to(device)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return [torch.zeros(()), *(value.detach().cpu() for value in model.state_dict().values())]
