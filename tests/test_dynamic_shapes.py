"""Sizes that change from call to call: a graph is specialised for those that arrive, and kept bounded."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rustorch_device import backend

DEVICES = ["cpu", "rustorch"]


pytestmark = pytest.mark.usefixtures("fresh_dynamo")


@pytest.fixture
def imports(monkeypatch):
    """The reports of all graphs that are imported."""
    reports = []
    monkeypatch.setattr(backend, "listeners", [reports])
    return reports


def unique_graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("device", DEVICES)
def test_forty_batch_sizes_stay_right_and_bounded(device, imports):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 3)).to(device)
    compiled = torch.compile(model, backend="rust_backend", dynamic=True)
    sizes = [*range(2, 42), *range(2, 42)]
    for rows in sizes:
        x = torch.randn(rows, 5).to(device)
        model.zero_grad()
        out = compiled(x)
        out.square().sum().backward()
        gradient = model[0].weight.grad.clone()
        model.zero_grad()
        expected = model(x)
        expected.square().sum().backward()
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(gradient, model[0].weight.grad)
    assert unique_graphs() == 1
    # Forty sizes in a ring do not fit into 32 plans, so each is imported anew: right, and bounded.
    assert backend.MAX_PLANS == 32
    assert len(imports) == 2 * len(sizes)


def test_no_more_plans_are_kept_than_the_limit():
    module = torch.fx.symbolic_trace(lambda x: [torch.ops.aten.relu.default(x)])
    run = backend.compile_graph(module, "inference")
    plans = next(cell.cell_contents for cell in run.__closure__ if isinstance(cell.cell_contents, list))
    for rows in range(1, 41):
        x = torch.randn(rows, device="rustorch")
        torch.testing.assert_close(run([x])[0], x.relu())
    assert len(plans) == backend.MAX_PLANS


@pytest.mark.parametrize("device", DEVICES)
def test_sizes_that_come_again_are_not_imported_again(device, imports):
    function = torch.compile(lambda x: F.softmax(x, -1) * 2, backend="rust_backend", dynamic=True)
    for rows in [3, 5, 7] * 4:
        x = torch.randn(rows, 9).to(device)
        torch.testing.assert_close(function(x), F.softmax(x, -1) * 2)
    assert len(imports) == 3


@pytest.mark.parametrize("device", DEVICES)
def test_automatic_dynamic_sizes(device):
    function = torch.compile(lambda x: (x + x.shape[0]).sum(1), backend="rust_backend")
    for rows in range(2, 12):
        x = torch.randn(rows, 3).to(device)
        torch.testing.assert_close(function(x), (x + rows).sum(1))
    assert unique_graphs() == 2, "one for the first size, one for all others"


@pytest.mark.parametrize("device", DEVICES)
def test_sizes_as_arguments_and_results(device):
    def function(x, count):
        rows = x.shape[0] * 2 + count
        return x.repeat(2, 1)[: rows - count], rows, torch.full((rows,), 1.5, device=x.device), x.shape[0] / 4

    compiled = torch.compile(function, backend="rust_backend", dynamic=True)
    for rows, count in [(2, 5), (3, 5), (3, 9), (6, 2)]:
        x = torch.randn(rows, 3).to(device)
        actual, expected = compiled(x, count), function(x, count)
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("device", DEVICES)
def test_two_sizes_that_move_apart(device):
    model = nn.Conv2d(2, 3, 3, padding=1).to(device)
    compiled = torch.compile(lambda x: F.max_pool2d(model(x), 2).flatten(1), backend="rust_backend", dynamic=True)
    for batch, height, width in [(2, 6, 8), (3, 10, 8), (5, 7, 9), (2, 6, 8)]:
        x = torch.randn(batch, 2, height, width).to(device)
        torch.testing.assert_close(compiled(x), F.max_pool2d(model(x), 2).flatten(1))


def test_an_impossible_shape_names_the_op_and_the_users_line():
    def function(x, y):
        return torch.mm(x, y)  # the line that is named

    compiled = torch.compile(function, backend="rust_backend", dynamic=True)
    with pytest.raises(Exception, match="the line that is named"):
        compiled(torch.randn(2, 3, device="rustorch"), torch.randn(4, 5, device="rustorch"))
