"""A training step of the demo's CNN: forward, loss, backward and fused Adam, batch 64."""

from collections.abc import Iterator

import torch
from torch import nn

from .harness import Arm, Case


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.conv2(self.conv1(x).relu()).relu(), 2)
        return self.fc2(self.fc1(x.flatten(1)).relu())


def step(device: str, backend: str | None) -> Arm:
    torch.manual_seed(0)
    model = Net().to(device)
    images, labels = torch.randn(64, 1, 28, 28).to(device), torch.randint(10, (64,)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    run = model if backend is None else torch.compile(model, backend=backend)

    def one() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(run(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return one


def cases(quick: bool, inductor: bool = False) -> Iterator[Case]:
    arms = {
        "cpu": step("cpu", None),
        "rustorch": step("rustorch", None),
        "rust_backend": step("rustorch", "rust_backend"),
        "rust_backend, CPU model": step("cpu", "rust_backend"),
    }
    if inductor:
        arms["inductor"] = step("cpu", "inductor")
    # The losses of first steps are compared; later ones move apart by rounding.
    yield Case("training", "MNIST CNN, batch 64", arms)
