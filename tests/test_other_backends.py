"""torch.compile of models on the device through PyTorch's own backends, and exporting them."""

import pytest
import torch
from compared import DEVICE
from torch import nn

BACKENDS = ["eager", "aot_eager", "aot_eager_decomp_partition"]


def trained(compile_with: str | None, device: str) -> list[list[float]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).to(device)
    images, labels = torch.randn(5, 1, 6, 6).to(device), torch.tensor([0, 1, 2, 0, 1]).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    call = torch.compile(model, backend=compile_with, fullgraph=True) if compile_with else model
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(call(images), labels).backward()
        optimizer.step()
    return [parameter.detach().cpu() for parameter in model.parameters()]


@pytest.mark.parametrize("backend", BACKENDS)
def test_training(backend):
    torch._dynamo.reset()
    compiled = trained(backend, DEVICE)
    for ours, eager, cpu in zip(compiled, trained(None, DEVICE), trained(None, "cpu"), strict=True):
        torch.testing.assert_close(ours, eager)
        torch.testing.assert_close(ours, cpu, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dynamic_shapes(backend):
    torch._dynamo.reset()
    call = torch.compile(lambda x: (x @ x.t()).softmax(0).sum(1), backend=backend, dynamic=True)
    for rows in (2, 3, 7):
        x = torch.randn(rows, 4)
        torch.testing.assert_close(call(x.to(DEVICE)).cpu(), (x @ x.t()).softmax(0).sum(1))


def test_an_exported_program_runs():
    model = nn.Sequential(nn.Linear(3, 4), nn.GELU()).to(DEVICE)
    x = torch.randn(2, 3).to(DEVICE)
    program = torch.export.export(model, (x,))
    torch.testing.assert_close(program.module()(x).cpu(), model(x).cpu())


def test_a_traced_graph_runs():
    from torch.fx.experimental.proxy_tensor import make_fx

    def function(x):
        return (x * 2).relu().sum(0)

    x = torch.randn(4, 3).to(DEVICE)
    torch.testing.assert_close(make_fx(function)(x)(x).cpu(), function(x).cpu())
