"""The parity suite's models: inference and a training step, against the CPU's eager and Inductor."""

import copy
from collections.abc import Iterator

import torch

from rustorch_device.parity.models import SUITE
from rustorch_device.parity.models import Case as Model
from rustorch_device.parity.run import prepared

from .harness import Arm, Case


def inference(model: Model, device: str, backend: str | None) -> Arm:
    module, inputs = prepared(model, device, torch.float32)
    module.eval()
    run = module if backend is None else torch.compile(module, backend=backend, dynamic=False)

    def call() -> torch.Tensor:
        with torch.no_grad():
            return run(*inputs)

    return call


def training_step(model: Model, device: str, backend: str | None) -> tuple[torch.optim.Optimizer, Arm]:
    """An optimizer, and a step of it."""
    module, inputs = prepared(model, device, torch.float32)
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9, fused=True)
    run = module if backend is None else torch.compile(module, backend=backend, dynamic=False)

    def call() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model.loss(run(*inputs))
        loss.backward()
        optimizer.step()
        return loss

    return optimizer, call


def training(model: Model, device: str, backend: str | None) -> Arm:
    return training_step(model, device, backend)[1]


def cases(quick: bool, inductor: bool = False) -> Iterator[Case]:
    arms = {"cpu": ("cpu", None)}
    if inductor:
        arms["inductor"] = ("cpu", "inductor")
    arms |= {"rustorch": ("rustorch", None), "rust_backend": ("rustorch", "rust_backend")}
    torch._dynamo.config.allow_rnn = True
    for name, make in list(SUITE.items())[: 1 if quick else None]:
        torch.manual_seed(0)
        model = make()
        for kind in (inference, training):
            # Dynamo stops compiling a function that it has seen with many models.
            torch._dynamo.reset()
            made = {arm: kind(copy.copy(model), *given) for arm, given in arms.items()}
            # Later losses of a step move apart by rounding; the parity suite compares.
            yield Case("suite", f"{name}, {kind.__name__}", made, 1e-2 if kind is inference else None)
