"""LSTM and GRU by whole layers: shapes, gradients of gradients, transforms, graphs."""

import copy

import pytest
import torch
from compared import check_error, numbers
from native import compute_outside_rust
from torch import func, nn

import rustorch_device

KINDS = {"lstm": nn.LSTM, "gru": nn.GRU}
WAYS = {
    "plain": {},
    "deep": {"num_layers": 3},
    "both ways": {"bidirectional": True, "num_layers": 2},
    "without bias": {"bias": False},
    "batch first": {"batch_first": True},
}


def made(kind, *sizes, dtype=torch.float32, **options):
    torch.manual_seed(0)
    return KINDS[kind](*sizes, **options).to(dtype)


def states(results):
    return results[1] if isinstance(results[1], tuple) else (results[1],)


def step(layer, x, first=None):
    """Results and gradients of a call; of the first states too, where they are given."""
    x = x.detach().requires_grad_()
    leaves = [x]
    if first is not None:
        leaves += [state.detach().requires_grad_() for state in first]
    given = () if first is None else (leaves[1] if isinstance(layer, nn.GRU) else tuple(leaves[1:]),)
    results = layer(x, *given)
    tensors = [results[0], *states(results)]
    layer.zero_grad()
    sum(
        (tensor * torch.linspace(-1, 2, tensor.numel()).to(tensor).view_as(tensor)).sum() for tensor in tensors
    ).backward()
    return [*tensors, *(leaf.grad for leaf in leaves), *(p.grad for p in layer.parameters())]


def assert_agree(actual, expected, tolerance):
    for mine, theirs in zip(actual, expected, strict=True):
        assert mine.device.type == "rustorch"
        torch.testing.assert_close(mine.cpu(), theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_shapes(kind, way):
    for steps, batch, features, hidden in [
        (1, 1, 1, 1),
        (7, 5, 3, 67),
        (5, 33, 31, 16),
        (3, 17, 130, 129),
        (2, 8, 64, 64),
    ]:
        for dtype, tolerance in [(torch.float32, 2e-4), (torch.float64, 1e-10)]:
            layer = made(kind, features, hidden, dtype=dtype, **WAYS[way])
            there = copy.deepcopy(layer).to("rustorch")
            sizes = (batch, steps) if way == "batch first" else (steps, batch)
            x = numbers(*sizes, features, dtype=dtype)
            count = layer.num_layers * (2 if layer.bidirectional else 1)
            first = [numbers(count, batch, hidden, dtype=dtype, seed=seed) for seed in range(1 if kind == "gru" else 2)]
            assert_agree(step(there, x.to("rustorch")), step(layer, x), tolerance)
            moved = [state.to("rustorch") for state in first]
            assert_agree(step(there, x.to("rustorch"), moved), step(layer, x, first), tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_layouts_and_values(kind):
    layer = made(kind, 6, 9)
    there = copy.deepcopy(layer).to("rustorch")
    transposed = numbers(6, 5, 4).permute(2, 1, 0)
    stepped = numbers(8, 10, 12)[::2, ::2, ::2]
    expanded = numbers(4, 1, 6).expand(4, 5, 6)
    without_batch = numbers(4, 6)
    huge = numbers(4, 5, 6) * 1e4
    for x in (transposed, stepped, expanded, without_batch, huge):
        assert_agree(step(there, x.to("rustorch")), step(layer, x), 1e-4)
    poisoned = numbers(4, 5, 6)
    poisoned[2, 3, 1] = float("nan")
    mine, theirs = there(poisoned.to("rustorch"))[0].cpu(), layer(poisoned)[0]
    torch.testing.assert_close(mine, theirs, equal_nan=True)
    # The samples beside it, and the steps before, know nothing of it.
    assert mine.isnan().any() and not mine[:, :3].isnan().any() and not mine[:2].isnan().any()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_other_layouts(kind):
    layer = made(kind, 5, 7)
    there = copy.deepcopy(layer).to("rustorch")
    for parameter in there.parameters():
        if parameter.dim() == 2:
            parameter.data = parameter.data.t().contiguous().t()
    x = numbers(3, 4, 5)
    assert_agree(step(there, x.to("rustorch")), step(layer, x), 1e-4)
    # Only one of the results is differentiated.
    for which in (0, 1):
        grads = []
        for module, given in ((layer, x), (there, x.to("rustorch"))):
            module.zero_grad()
            results = module(given)
            [results[0], *states(results)][which].square().sum().backward()
            grads.append([parameter.grad for parameter in module.parameters()])
        assert_agree(grads[1], grads[0], 1e-4)


@pytest.mark.parametrize("way", ["plain", "both ways", "without bias"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_finite_differences(kind, way):
    layer = made(kind, 2, 3, dtype=torch.float64, **WAYS[way]).to("rustorch")
    x = numbers(3, 2, 2, dtype=torch.float64).to("rustorch").requires_grad_()
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    first = numbers(count, 2, 3, dtype=torch.float64, seed=3).to("rustorch").requires_grad_()
    names = [name for name, _ in layer.named_parameters()]

    def call(x, first, *parameters):
        given = (first if kind == "gru" else (first, first.sin()),)
        results = func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, *given))
        return (results[0], *states(results))

    inputs = (x, first, *(p.detach().requires_grad_() for p in layer.parameters()))
    assert torch.autograd.gradcheck(call, inputs)
    if way != "both ways":
        assert torch.autograd.gradgradcheck(call, inputs)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_sequences_by_finite_differences(kind, bidirectional):
    layer = made(kind, 2, 3, dtype=torch.float64, bidirectional=bidirectional).to("rustorch")
    x = numbers(4, 3, 2, dtype=torch.float64).to("rustorch").requires_grad_()

    def call(x):
        packed = nn.utils.rnn.pack_padded_sequence(x, [4, 2, 1])
        results = layer(packed)
        return (results[0].data, *states(results))

    assert torch.autograd.gradcheck(call, (x,))
    assert torch.autograd.gradgradcheck(call, (x,))


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_one_kernel(kind):
    layer = made(kind, 6, 8, num_layers=2).to("rustorch")
    x = numbers(5, 3, 6).to("rustorch")
    torch.rustorch.reset_fallback_counts()
    with rustorch_device.profile(show=False) as profile:
        step(layer, x)
    calls = {row.name: row.calls for row in profile.kernels}
    assert calls[f"{kind}_layer"] == calls[f"{kind}_layer_backward"] == 2
    assert f"{kind}_cell" not in calls
    assert compute_outside_rust(lambda: layer(x)[0].sum().backward()) == []
    assert not torch.rustorch.fallback_counts()


@pytest.mark.parametrize("kind", KINDS)
def test_without_gradients(kind):
    layer = made(kind, 6, 8, num_layers=2, dropout=0.5).eval()
    there, x = copy.deepcopy(layer).to("rustorch"), numbers(5, 3, 6)
    expected = layer(x)[0].detach()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(there(x.to("rustorch"))[0].cpu(), expected)
    assert not there(x.to("rustorch"))[0].equal(there.train()(x.to("rustorch"))[0])


@pytest.mark.parametrize("kind", KINDS)
def test_transforms(kind):
    layer, x = made(kind, 4, 5, dtype=torch.float64), numbers(3, 2, 4, dtype=torch.float64)
    found = []
    for module, given in ((layer, x), (copy.deepcopy(layer).to("rustorch"), x.to("rustorch"))):

        def loss(parameters, x, module=module):
            return func.functional_call(module, parameters, (x,))[0].square().sum()

        parameters = dict(module.named_parameters())
        grads = func.grad(loss)(parameters, given)
        found.append([*grads.values(), func.grad(loss, argnums=1)(parameters, given)])
    assert_agree(found[1], [tensor.detach() for tensor in found[0]], 1e-9)


def test_errors_are_pytorchs():
    for kind in (nn.LSTM, nn.GRU):
        check_error(lambda x, kind=kind: kind(3, 4).to(x.device)(x), numbers(2, 2, 5))
        check_error(lambda x, kind=kind: kind(3, 4).to(x.device)(x.double()), numbers(2, 2, 3))
        check_error(lambda x, kind=kind: kind(3, 4).to(x.device)(x), numbers(0, 2, 3))
        check_error(
            lambda x, kind=kind: kind(3, 4)(x.to("rustorch")) if x.device.type == "cpu" else kind(3, 4)(x),
            numbers(2, 2, 3),
        )
    check_error(lambda x: torch.lstm(x, [x], [x], False, 1, 0.0, False, False, False), numbers(2, 2, 3))
    check_error(lambda x: torch.gru(x, x, [x, x], False, 1, 0.0, False, False, False), numbers(2, 2, 3))


@torch._dynamo.config.patch(allow_rnn=True)
@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.parametrize("device", ["cpu", "rustorch"])
@pytest.mark.parametrize("kind", KINDS)
def test_graphs(kind, device):
    layer = made(kind, 6, 16, num_layers=2, batch_first=True, bidirectional=True)
    x = numbers(3, 5, 6)
    expected = step(layer, x)
    there = copy.deepcopy(layer).to(device)
    compiled = torch.compile(there, backend="rust_backend")
    for _ in range(3):
        actual = step(compiled, x.to(device))
        for mine, theirs in zip(actual, expected, strict=True):
            torch.testing.assert_close(mine.cpu(), theirs, rtol=1e-4, atol=1e-4)


@torch._dynamo.config.patch(allow_rnn=True)
@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("way", WAYS)
def test_a_cpu_models_graph_has_whole_layers(way, dtype):
    layer, x = made("lstm", 6, 16, **WAYS[way]).to(dtype), numbers(5, 3, 6).to(dtype)
    report = rustorch_device.explain(layer, x)
    layers = layer.num_layers * (2 if layer.bidirectional else 1)
    for name in ("aten.mkldnn_rnn_layer.default", "aten.mkldnn_rnn_layer_backward.default"):
        assert [node.target for node in report.native].count(name) == layers
    compiled, found = torch.compile(layer, backend="rust_backend"), []
    for arm in (layer, compiled, compiled):
        layer.zero_grad()
        results = arm(x)
        sum(state.square().sum() for state in (results[0], *results[1])).backward()
        found.append([results[0], *results[1], *(parameter.grad for parameter in layer.parameters())])
    tolerance = 1e-4 if dtype == torch.float32 else 3e-2
    for actual in found[1:]:
        torch.testing.assert_close(actual, found[0], rtol=tolerance, atol=tolerance)


@torch._dynamo.config.patch(allow_rnn=True)
@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.parametrize("device", ["cpu", "rustorch"])
def test_graphs_of_lstms_are_native(device):
    layer = made("lstm", 6, 16, num_layers=2).to(device)
    report = rustorch_device.explain(layer, numbers(5, 3, 6).to(device))
    assert report.coverage == 1.0 and not report.graph_breaks
    assert report.text().count("lstm_layer(") == 2, "the backward pass computes no layer again"
    empty = torch.compile(layer, backend="rust_backend")(torch.empty(5, 0, 6, device=device))[0]
    assert empty.shape == (5, 0, 16)
