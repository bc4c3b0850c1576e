"""torch.func on the device: vmap, grad, jvp, vjp, jacobians, hessians, functional_call, against the CPU."""

import pytest
import torch
from compared import DEVICE, check
from torch import func, nn

X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
Y = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
WEIGHT = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))

#: Functions of two vectors of three elements.
OF_VECTORS = {
    "dot": torch.dot,
    "pointwise": lambda x, y: (x * y).sin() + x.exp() * 2,
    "matrix product": lambda x, y: WEIGHT.to(x.device) @ x + y.sum(),
    "linear": lambda x, y: nn.functional.linear(x + y, WEIGHT.to(x.device)),
    "softmax": lambda x, y: (x + y).softmax(0),
    "layer norm": lambda x, y: nn.functional.layer_norm(x, (3,), y, x),
    "reduction": lambda x, y: torch.stack([x.sum(), y.mean(), (x * y).amax()]),
    "where": lambda x, y: torch.where(x > y, x, y.square()),
    "gather": lambda x, y: x[torch.tensor([2, 0], device=x.device)] * y[1],
    "cat": lambda x, y: torch.cat([x, y.flip(0)]).cumsum(0),
    "sort": lambda x, y: (x * y).sort().values,
    "norm": lambda x, y: (x - y).norm(),
    "outer": lambda x, y: torch.outer(x, y).tril(),
    "scatter": lambda x, y: torch.zeros_like(x).scatter(0, torch.tensor([1, 2, 0], device=x.device), y),
    "convolution": lambda x, y: nn.functional.conv1d(x.view(1, 1, 3), y.view(1, 1, 3), padding=1).flatten(),
    "pooling": lambda x, y: nn.functional.max_pool1d((x * y).view(1, 1, 3), 2, 1).flatten(),
}


@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0)])
@pytest.mark.parametrize("name", OF_VECTORS)
def test_vmap(name, in_dims):
    operands = (X if in_dims[0] == 0 else X[0], Y if in_dims[1] == 0 else Y[0])
    check(func.vmap(OF_VECTORS[name], in_dims), *operands)


@pytest.mark.parametrize("name", OF_VECTORS)
def test_vmap_is_a_loop(name):
    mapped = func.vmap(OF_VECTORS[name])(X.to(DEVICE), Y.to(DEVICE))
    looped = [OF_VECTORS[name](x, y) for x, y in zip(X.to(DEVICE), Y.to(DEVICE), strict=True)]
    torch.testing.assert_close(mapped.cpu(), torch.stack(looped).cpu())


@pytest.mark.parametrize("name", OF_VECTORS)
def test_gradients(name):
    def loss(x, y):
        return OF_VECTORS[name](x, y).square().sum()

    check(func.grad(loss, argnums=(0, 1)), X[0], Y[0])
    check(func.vmap(func.grad(loss)), X, Y)
    value = func.grad_and_value(loss)
    check(lambda x, y: list(value(x, y)), X[0], Y[0])


@pytest.mark.parametrize("name", OF_VECTORS)
def test_jacobians(name):
    function = OF_VECTORS[name]
    check(func.jacrev(function, argnums=(0, 1)), X[0], Y[0])
    check(func.jacfwd(function), X[0], Y[0])
    check(lambda x, y, t: func.jvp(function, (x, y), (t, t)), X[0], Y[0], X[1])
    check(lambda x, y: func.vjp(function, x, y)[1](torch.ones_like(function(x, y))), X[0], Y[0])


@pytest.mark.parametrize("name", ["dot", "pointwise", "softmax", "norm"])
def test_hessians(name):
    check(func.hessian(lambda x, y: OF_VECTORS[name](x, y).sum()), X[0], Y[0])


def test_a_gradient_by_sample():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(DEVICE)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(parameters, x):
        return func.functional_call(model, parameters, x[None]).square().sum()

    by_sample = func.vmap(func.grad(loss), (None, 0))(parameters, X.to(DEVICE))
    for number, x in enumerate(X.to(DEVICE)):
        model.zero_grad()
        model(x[None]).square().sum().backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(by_sample[name][number].cpu(), parameter.grad.cpu())


def test_an_ensemble():
    models = [nn.Linear(3, 2).to(DEVICE) for _ in range(4)]
    parameters, buffers = func.stack_module_state(models)
    assert all(value.device.type == DEVICE for value in parameters.values())

    def call(parameters, buffers, x):
        return func.functional_call(models[0], (parameters, buffers), x)

    together = func.vmap(call, (0, 0, None))(parameters, buffers, X.to(DEVICE))
    torch.testing.assert_close(together.cpu(), torch.stack([model(X.to(DEVICE)) for model in models]).cpu())


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_random_numbers_under_vmap(randomness):
    drawn = func.vmap(lambda x: x + torch.rand(3, device=DEVICE), randomness=randomness)(torch.zeros(4, 3).to(DEVICE))
    rows = {tuple(row) for row in drawn.tolist()}
    assert len(rows) == (1 if randomness == "same" else 4)
    with pytest.raises(RuntimeError, match="randomness"):
        func.vmap(lambda x: x + torch.rand(3, device=DEVICE))(torch.zeros(4, 3).to(DEVICE))


def test_forward_mode():
    from torch.autograd import forward_ad

    for device in ("cpu", DEVICE):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(X.to(device), Y.to(device))
            tangent = forward_ad.unpack_dual((dual * dual).sum(1)).tangent
        torch.testing.assert_close(tangent.cpu(), (2 * X * Y).sum(1))


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0, torch.inf])
def test_jacobians_of_distances(p):
    """Against gradients row by row: on the CPU, PyTorch's `jacrev` gives every row the first one's."""

    def distances(x, y):
        return torch.cdist(x, y, p=p)

    exact = torch.autograd.functional.jacobian(distances, (X.double(), Y.double()))
    both = func.jacrev(distances, (0, 1))(X.to(DEVICE), Y.to(DEVICE))
    slopes = func.vmap(func.grad(lambda x, y: distances(x, y).sum(), (0, 1)))(
        X.expand(2, 5, 3).to(DEVICE), Y.expand(2, 5, 3).to(DEVICE)
    )
    sums = [jacobian.sum((0, 1)).expand(2, 5, 3) for jacobian in exact]
    for mine, theirs in zip((*both, *slopes), (*exact, *sums), strict=True):
        torch.testing.assert_close(mine.cpu().double(), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_jacobians_of_distances_under_vmap(p):
    """A batch that the gradient alone has, within one that the points have too."""

    def distances(x, y):
        return torch.cdist(x, y, p=p)

    xs, ys = torch.stack([X, Y, 2 * X]), torch.stack([Y, X + 1, X - Y])[:, :4]
    jacobians = func.vmap(func.jacrev(distances, (0, 1)))(xs.to(DEVICE), ys.to(DEVICE))
    only_one = func.vmap(func.jacrev(distances, (0, 1)), in_dims=(0, None))(xs.to(DEVICE), ys[0].to(DEVICE))
    for batched, others in ((jacobians, ys), (only_one, ys[:1].expand(3, -1, -1))):
        rows = zip(xs.double(), others.double(), strict=True)
        exact = [torch.autograd.functional.jacobian(distances, row) for row in rows]
        for mine, theirs in zip(batched, zip(*exact, strict=True), strict=True):
            torch.testing.assert_close(mine.cpu().double(), torch.stack(theirs), rtol=1e-4, atol=1e-5)
