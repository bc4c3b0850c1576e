"""The CNN of the demo trains in Rust alone: forward, loss, backward and optimizer."""

import copy

import pytest
import torch
import torch.nn.functional as F
from native import compute_outside_rust
from torch import nn


def demo_cnn() -> nn.Module:
    """The MNIST example's model, with a narrower hidden layer."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(9216, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=1e-4),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    "fused_sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True),
    "fused_adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3, fused=True),
    "fused_adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, fused=True),
}
STEPS = 3
FUSED = [name for name in OPTIMIZERS if name.startswith("fused")]


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(8, 1, 28, 28), torch.randint(0, 10, (8,))


def train(model, optimizer, images, labels):
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach().cpu())
    return losses


def reference(model, make_optimizer, batch):
    model = copy.deepcopy(model)
    losses = train(model, make_optimizer(model.parameters()), *batch)
    return losses, [parameter.detach() for parameter in model.parameters()]


def assert_same_training(losses, model, expected):
    torch.testing.assert_close(losses, expected[0], rtol=1e-4, atol=1e-5)
    parameters = [parameter.detach().cpu() for parameter in model.parameters()]
    torch.testing.assert_close(parameters, expected[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("optimizer", FUSED)
def test_eager_training_on_rustorch(optimizer, batch):
    model = demo_cnn()
    expected = reference(model, OPTIMIZERS[optimizer], batch)
    images, labels = (tensor.to("rustorch") for tensor in batch)
    model.to("rustorch")
    losses = []
    step = OPTIMIZERS[optimizer](model.parameters())
    assert compute_outside_rust(lambda: losses.extend(train(model, step, images, labels))) == []
    assert_same_training(losses, model, expected)


def compiled_training(optimizer, device, batch):
    """Trains as `reference` does; what computed outside Rust in the last step. The steps before it
    import the graphs (an optimizer's second step differs from its first: its state exists).
    """
    torch._dynamo.reset()
    model = demo_cnn()
    expected = reference(model, OPTIMIZERS[optimizer], batch)
    model.to(device)
    images, labels = (tensor.to(device) for tensor in batch)
    loss_of = torch.compile(lambda images, labels: F.cross_entropy(model(images), labels), backend="rust_backend")
    step = OPTIMIZERS[optimizer](model.parameters())
    # Dynamo does not trace fused optimizers: their step is one eager kernel.
    run_step = step.step if optimizer in FUSED else torch.compile(step.step, backend="rust_backend")
    losses = []

    def work():
        step.zero_grad()
        loss = loss_of(images, labels)
        loss.backward()
        run_step()
        losses.append(loss.detach())

    for _ in range(STEPS - 1):
        work()
    outside = compute_outside_rust(work)
    assert_same_training([loss.cpu() for loss in losses], model, expected)
    return outside


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_compiled_training_on_rustorch(optimizer, batch):
    assert compiled_training(optimizer, "rustorch", batch) == []


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_compiled_training_of_a_cpu_model(optimizer, batch):
    # Autograd seeds `backward` with a one, made where the loss is, before any graph of ours runs.
    assert set(compiled_training(optimizer, "cpu", batch)) <= {"aten::fill_"}
