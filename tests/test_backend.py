"""`torch.compile(backend="rust_backend")` against eager, for models on the CPU and on rustorch."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import rustorch_device

DEVICES = ["cpu", "rustorch"]


pytestmark = pytest.mark.usefixtures("fresh_dynamo")


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 25, 10),
    )


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 32), nn.GELU(), nn.Linear(32, 10))


MODELS = {"mlp": (mlp, (5, 20)), "cnn": (cnn, (4, 1, 14, 14))}


def step(model, inputs, targets):
    """Loss and gradients of one training step."""
    model.zero_grad()
    loss = F.cross_entropy(model(inputs), targets)
    loss.backward()
    return loss.detach().cpu(), [parameter.grad.cpu() for parameter in model.parameters()]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MODELS)
def test_a_training_step_agrees_with_cpu_eager(name, device):
    build, shape = MODELS[name]
    torch.manual_seed(0)
    model = build()
    inputs, targets = torch.randn(shape), torch.randint(0, 10, shape[:1])
    expected_loss, expected = step(model, inputs, targets)
    compiled = torch.compile(copy.deepcopy(model).to(device), backend="rust_backend")
    for _ in range(3):  # The first call imports; the others run programs.
        loss, gradients = step(compiled, inputs.to(device), targets.to(device))
        torch.testing.assert_close(loss, expected_loss)
        torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("device", DEVICES)
def test_results_are_on_the_models_device(device):
    model = mlp().to(device)
    compiled = torch.compile(model, backend="rust_backend")
    inputs = torch.randn(3, 20).to(device)
    for _ in range(2):
        with torch.no_grad():
            result = compiled(inputs)
        assert result.device.type == device
        torch.testing.assert_close(result.cpu(), model(inputs).detach().cpu())


@pytest.mark.parametrize("device", DEVICES)
def test_other_shapes_are_imported_anew(device):
    function = torch.compile(lambda x: F.relu(x) + 1, backend="rust_backend")
    for sizes in [(2, 3), (4, 3), (7, 3), (2, 3), (0, 3), (1, 1)]:
        x = torch.randn(sizes).to(device)
        torch.testing.assert_close(function(x).cpu(), F.relu(x.cpu()) + 1)


@pytest.mark.parametrize("device", DEVICES)
def test_dynamic_sizes(device):
    function = torch.compile(lambda x: (F.relu(x) * x.shape[0]).sum(0), backend="rust_backend", dynamic=True)
    for rows in [2, 5, 9]:
        x = torch.randn(rows, 3).to(device)
        torch.testing.assert_close(function(x).cpu(), (F.relu(x.cpu()) * rows).sum(0))


@pytest.mark.parametrize("device", DEVICES)
def test_strides_of_arguments_may_differ(device):
    function = torch.compile(lambda x: x + 1, backend="rust_backend")
    x = torch.randn(4, 6).to(device)
    for argument in [x, x.t(), x[::2, 1::2], x[:1].expand(5, 6)]:
        torch.testing.assert_close(function(argument).cpu(), argument.cpu() + 1)


@pytest.mark.parametrize("device", DEVICES)
def test_mutation_of_an_argument(device):
    def function(x, y):
        x.add_(y)
        return x * 2

    x, y = torch.randn(5).to(device), torch.randn(5).to(device)
    expected_x = x.cpu() + y.cpu()
    version = x._version
    result = torch.compile(function, backend="rust_backend")(x, y)
    torch.testing.assert_close(x.cpu(), expected_x)
    torch.testing.assert_close(result.cpu(), expected_x * 2)
    assert x._version > version


@pytest.mark.parametrize("device", DEVICES)
def test_arguments_that_share_memory(device):
    def function(x, y):
        x.mul_(2)
        return x + y

    compiled = torch.compile(function, backend="rust_backend")
    for _ in range(2):
        x = torch.ones(4).to(device)
        torch.testing.assert_close(compiled(x, x).cpu(), torch.full((4,), 4.0))
        torch.testing.assert_close(compiled(torch.ones(4).to(device), x).cpu(), torch.full((4,), 4.0))


@pytest.mark.parametrize("device", DEVICES)
def test_a_node_that_rust_lacks_runs_between_programs(device, allow_fallback):
    def function(x):
        return torch.linalg.eigvalsh(torch.outer(x + 1, x + 1)).relu() * 2

    x = torch.randn(6).to(device)
    compiled = torch.compile(function, backend="rust_backend")
    for _ in range(2):
        torch.testing.assert_close(compiled(x).cpu(), function(x.cpu()))
    report = rustorch_device.explain(function, x)
    assert [node.target for node in report.not_native] == ["aten._linalg_eigh.default"]
    assert {"aten.add.Tensor", "aten.relu.default", "aten.mul.Tensor"} <= {node.target for node in report.native}
    assert "aten._linalg_eigh" in str(report)


def test_explain_counts_nodes_and_graph_breaks():
    def function(x):
        x = torch.relu(x)
        torch._dynamo.graph_break()
        return x + 1

    report = rustorch_device.explain(function, torch.randn(4))
    assert [node.target for node in report.native] == ["aten.relu.default", "aten.add.Tensor"]
    assert not report.not_native
    assert sum(report.graph_breaks.values()) == 1
    assert "graph break" in str(report)


def test_an_error_names_the_users_line():
    def function(table, index):
        return F.embedding(index, table)  # the line that asks

    table = torch.randn(3, 2)
    compiled = torch.compile(function, backend="rust_backend")
    for _ in range(2):  # The first call imports; the second runs what was imported.
        with pytest.raises(IndexError, match=r"(?s)out of (range|bounds).*test_backend\.py.*the line that asks"):
            compiled(table, torch.tensor([5]))
    torch.testing.assert_close(compiled(table, torch.tensor([2])), table[2:])


@pytest.mark.parametrize("device", DEVICES)
def test_dropout_follows_the_seed(device):
    dropout = torch.compile(nn.Dropout(0.5), backend="rust_backend")
    x = torch.ones(1000).to(device)
    masks = []
    for seed in [1, 1, 2]:
        torch.manual_seed(seed)
        masks.append(dropout(x).cpu())
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert 350 < int((masks[0] != 0).sum()) < 650
    assert not torch.equal(dropout(x).cpu(), dropout(x).cpu())


def test_a_cpu_models_recurrent_layer_is_native():
    with torch._dynamo.config.patch(allow_rnn=True):
        model = nn.LSTM(5, 7, num_layers=2, batch_first=True)
        x = torch.randn(3, 4, 5)
        expected, _ = model(x)
        expected.sum().backward()
        gradients = [parameter.grad.clone() for parameter in model.parameters()]
        model.zero_grad()
        result, _ = torch.compile(model, backend="rust_backend")(x)  # A fallback would be an error here.
        result.sum().backward()
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close([parameter.grad for parameter in model.parameters()], gradients)
    assert torch._C._get_mkldnn_enabled()
