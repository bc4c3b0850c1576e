"""Programs for torchrun that never heard of the device: `unaware.py accelerate|inductor FOLDER`.

Each rank writes what it computed to FOLDER.
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outer(nn.functional.gelu(self.inner(x)))


def _model() -> nn.Module:
    torch.manual_seed(0)
    return Network()


def _data() -> torch.utils.data.DataLoader:
    generator = torch.Generator().manual_seed(1)
    data = torch.utils.data.TensorDataset(
        torch.randn(24, 6, generator=generator), torch.randint(3, (24,), generator=generator)
    )
    return torch.utils.data.DataLoader(data, batch_size=4)


def accelerate() -> list[str]:
    from accelerate import Accelerator

    accelerator = Accelerator(gradient_accumulation_steps=2)
    model = _model()
    model, optimizer, data = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-2), _data())
    said = [str(accelerator.device), str(accelerator.num_processes), type(model).__name__]
    for x, target in data:
        with accelerator.accumulate(model):
            loss = nn.functional.cross_entropy(model(x), target)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        said.append(repr(accelerator.gather(loss.detach().view(1)).tolist()))
    said += [repr(value.tolist()) for value in accelerator.get_state_dict(model).values()]
    accelerator.end_training()
    return said


def inductor() -> list[str]:
    dist.init_process_group()
    model = DistributedDataParallel(_model())
    compiled = torch.compile(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    said = [dist.get_backend()]
    for x, target in _data():
        loss = nn.functional.cross_entropy(compiled(x + dist.get_rank()), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        said.append(repr(loss.item()))
    said += [repr(parameter.tolist()) for parameter in model.parameters()]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    dist.destroy_process_group()
    return said


if __name__ == "__main__":
    lines = {"accelerate": accelerate, "inductor": inductor}[sys.argv[1]]()
    (Path(sys.argv[2]) / os.environ["RANK"]).write_text("\n".join(lines))
