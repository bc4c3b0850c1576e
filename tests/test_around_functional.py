"""`torch.func`, parametrized and quantised modules, and FlexAttention on the device, against the CPU."""

import copy
import functools

import pytest
import torch
from compared import DEVICE
from torch import nn
from torch.nn.utils import parametrizations

BACKEND = "rust_backend"


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3))


def check(function, *given, compiled: bool = True, **tolerance) -> None:
    """Calls it on the CPU and on the device, eager and compiled."""
    expected = function(*given)
    there = [copy.deepcopy(value).to(DEVICE) for value in given]
    torch.testing.assert_close(_home(function(*there)), expected, **tolerance)
    if compiled:
        torch._dynamo.reset()
        run = torch.compile(function, backend=BACKEND, fullgraph=True)
        torch.testing.assert_close(_home(run(*there)), expected, **tolerance)


def _home(value):
    return torch.utils._pytree.tree_map(lambda tensor: tensor.detach().cpu(), value)


def wave(x: torch.Tensor) -> torch.Tensor:
    return (x.sin() * x.flip(0)).cumsum(0)


def test_vmap():
    def function(x, y):
        return (
            torch.vmap(lambda a, b: (a * b).sum().tanh())(x, y),
            torch.vmap(lambda a: torch.where(a > 0, a, -a).cumsum(0), in_dims=1, out_dims=1)(x),
        )

    check(function, torch.randn(5, 3), torch.randn(5, 3))


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_vmap_of_random_functions(randomness):
    drawn = torch.vmap(lambda x: nn.functional.dropout(x, 0.5), randomness=randomness)(torch.ones(2, 64, device=DEVICE))
    assert torch.equal(drawn[0], drawn[1]) == (randomness == "same")


def test_derivatives():
    from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp

    def function(x):
        return (
            jacrev(wave)(x),
            jacfwd(wave)(x),
            hessian(lambda x: wave(x).sum())(x),
            grad(lambda x: wave(x).sum())(x),
            jvp(wave, (x,), (x,)),
            vjp(wave, x)[1](x),
        )

    check(function, torch.randn(4))
    check(lambda x: torch.func.linearize(wave, x)[1](x), torch.randn(4), compiled=False)
    check(lambda x: torch.autograd.functional.jacobian(wave, x, vectorize=True), torch.randn(4), compiled=False)


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2)
        self.linear, self.embedding = nn.Linear(32, 3), nn.Embedding(5, 3)

    def forward(self, images, kinds):
        return self.linear(self.norm(self.conv(images)).relu().flatten(1)) + self.embedding(kinds)


def test_gradients_by_sample():
    from torch.func import functional_call, grad, vmap

    def function(model, images, kinds, labels):
        parameters = {name: value.detach() for name, value in model.named_parameters()}

        def loss(parameters, image, kind, label):
            return nn.functional.cross_entropy(
                functional_call(model, parameters, (image[None], kind[None])), label[None]
            )

        return vmap(grad(loss), in_dims=(None, 0, 0, 0))(parameters, images, kinds, labels)

    kinds, labels = torch.randint(0, 5, (6,)), torch.randint(0, 3, (6,))
    check(function, Classifier(), torch.randn(6, 1, 6, 6), kinds, labels, rtol=1e-3, atol=1e-4)


def test_an_ensemble():
    from torch.func import functional_call, stack_module_state

    def function(x):
        models = [mlp().to(x.device) for _ in range(3)]
        base = copy.deepcopy(models[0]).to("meta")
        call = functools.partial(functional_call, base)
        return torch.vmap(lambda *state, x: call(state, (x,)), in_dims=(0, 0))(*stack_module_state(models), x=x)

    check(function, torch.randn(2, 4), compiled=False)


# Modules whose weights are made of others.


@pytest.mark.allow_fallback
@pytest.mark.parametrize(
    "change",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
        functools.partial(parametrizations.orthogonal, orthogonal_map="cayley"),
        functools.partial(parametrizations.orthogonal, orthogonal_map="householder"),
    ],
    ids=["weight_norm", "spectral_norm", "matrix_exp", "cayley", "householder"],
)
def test_parametrizations(change):
    torch.manual_seed(0)
    layer = change(nn.Linear(4, 4)).eval()
    check(lambda layer, x: layer(x), layer, torch.randn(2, 4), rtol=1e-4, atol=1e-4)
    trained = change(nn.Linear(4, 4).to(DEVICE))
    before = [parameter.clone() for parameter in trained.parameters()]
    with nn.utils.parametrize.cached():
        trained(torch.randn(2, 4, device=DEVICE)).square().sum().backward()
    torch.optim.SGD(trained.parameters(), lr=0.1).step()
    assert any((now != then).any() for now, then in zip(trained.parameters(), before, strict=True))


def test_the_former_norms_and_stateless_calls():
    for change in (nn.utils.weight_norm, nn.utils.spectral_norm):
        layer = change(nn.Linear(4, 4).to(DEVICE))
        layer(torch.randn(2, 4, device=DEVICE)).sum().backward()
        assert all(parameter.grad is not None for parameter in layer.parameters())
    zeros = {name: torch.zeros_like(value) for name, value in mlp().to(DEVICE).named_parameters()}
    called = nn.utils.stateless.functional_call(mlp().to(DEVICE), zeros, (torch.ones(2, 4, device=DEVICE),))
    assert called.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_pruning_and_vectors_of_parameters():
    from torch.nn.utils import prune

    layer = nn.Linear(4, 4).to(DEVICE)
    prune.l1_unstructured(layer, "weight", 0.5)
    layer(torch.randn(2, 4, device=DEVICE)).sum().backward()
    prune.remove(layer, "weight")
    assert (layer.weight == 0).sum().item() == 8
    vector = nn.utils.parameters_to_vector(layer.parameters())
    nn.utils.vector_to_parameters(vector * 2, layer.parameters())
    torch.testing.assert_close(nn.utils.parameters_to_vector(layer.parameters()), vector * 2)


@pytest.mark.filterwarnings("ignore")
def test_quantization_aware_training(fresh_dynamo):
    from torch.ao import quantization

    def prepared() -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)).train()
        model = quantization.fuse_modules_qat(model, [["0", "1", "2"]])
        model.qconfig = quantization.get_default_qat_qconfig("x86")
        return quantization.prepare_qat(model)

    def train(model: nn.Module, run, device: str) -> list[torch.Tensor]:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        torch.manual_seed(1)
        for _ in range(3):
            optimizer.zero_grad()
            run(torch.randn(4, 1, 6, 6).to(device)).square().mean().backward()
            optimizer.step()
        return [value.detach().cpu() for value in model.state_dict().values() if value.is_floating_point()]

    expected = train(model := prepared(), model, "cpu")
    eager, compiled = prepared().to(DEVICE), prepared().to(DEVICE)
    for trained in (
        train(eager, eager, DEVICE),
        train(compiled, torch.compile(compiled, backend=BACKEND), DEVICE),
    ):
        for ours, theirs in zip(trained, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    converted = quantization.convert(eager.cpu().eval())
    assert "Quantized" in type(converted[0]).__module__ + str(converted)


@pytest.mark.parametrize("module", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize("compiled", [False, True])
def test_sparse_gradients_are_refused_with_what_to_do(module, compiled, fresh_dynamo):
    layer = module(5, 3, sparse=True).to(DEVICE)
    run = torch.compile(layer, backend=BACKEND) if compiled else layer
    with pytest.raises(NotImplementedError, match="leave sparse=True and sparse_grad=True out"):
        run(torch.tensor([[1, 2], [3, 3]], device=DEVICE)).sum().backward()


# FlexAttention.


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_flex_attention(fresh_dynamo):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    queries = torch.randn(1, 2, 16, 8)

    def causal(batch, head, query, key):
        return query >= key

    def distance(score, batch, head, query, key):
        return score - (query - key) * 0.1

    compiled = torch.compile(flex_attention, backend=BACKEND)
    blocks = {
        device: create_block_mask(causal, 1, 1, 16, 16, device=device, BLOCK_SIZE=16) for device in ("cpu", DEVICE)
    }
    expected = flex_attention(queries, queries, queries, distance, blocks["cpu"])
    there = queries.to(DEVICE).requires_grad_()
    gradients = []
    for attend in (flex_attention, compiled):
        actual = attend(there, there, there, distance, blocks[DEVICE])
        torch.testing.assert_close(actual.detach().cpu(), expected)
        gradients.append(torch.autograd.grad(actual.square().sum(), there)[0])
    torch.testing.assert_close(*gradients)
    # PyTorch's CPU has no backward of it: the same by hand.
    scores = there @ there.mT / 8**0.5 - (torch.arange(16)[:, None] - torch.arange(16)).to(DEVICE) * 0.1
    masked = scores.masked_fill(torch.ones(16, 16).triu(1).bool().to(DEVICE), -torch.inf)
    by_hand = torch.autograd.grad((masked.softmax(-1) @ there).square().sum(), there)[0]
    torch.testing.assert_close(gradients[0], by_hand, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="only supported on"):
        flex_attention(*[queries.to("meta")] * 3)
