"""What `options={"keep_weights": True}` keeps of weights, and when it is made anew."""

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from rustorch_device import _device_module, weights


class Model(nn.Module):
    """Small products by transposed weights, one of them used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(300, 70), nn.Linear(70, 70)
        self.register_buffer("scale", torch.rand(70) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.second(self.first(x).relu())
        return self.second(hidden.tanh()) * self.scale.exp()


def compiled(model: nn.Module, device: str):
    torch._dynamo.reset()
    return torch.compile(model.to(device), backend="rust_backend", options={"keep_weights": True})


def listing(module: torch.fx.GraphModule) -> list[str]:
    return [node.name for node in module.graph.nodes]


def test_a_transposed_weight_is_copied_once_for_small_products() -> None:
    def graph(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        turned = w.t()
        return torch.addmm(b, x, turned).tanh() + torch.mm(x * 2, turned)

    # In f64: PyTorch's own product of a dense weight rounds otherwise than that of a transposed one.
    arguments = [torch.randn(size, dtype=torch.float64) for size in ((4, 300), (70, 300), (70,))]
    module = make_fx(graph)(*arguments)
    before = ["x_1", "w_1", "b_1", "t", "addmm", "tanh", "mul", "mm", "add", "output"]
    assert listing(module) == before
    kept = weights.Kept(module, [1, 2])
    assert listing(module) == [*before[:4], "clone_default", *before[4:]]
    assert [node.name for node in kept.nodes] == ["t", "clone_default"]
    torch.testing.assert_close(module(*arguments), graph(*arguments))
    # With many rows the copy costs nothing; with one, a transposed weight is read as well.
    for rows in (1, 100):
        module = make_fx(graph)(torch.randn(rows, 300, dtype=torch.float64), *arguments[1:])
        assert weights.Kept(module, [1, 2]).nodes == []
        assert listing(module) == before


def test_what_is_written_or_given_to_the_caller_is_not_kept() -> None:
    def graph(x: torch.Tensor, w: torch.Tensor, count: torch.Tensor) -> tuple[torch.Tensor, ...]:
        result = x * w.exp() + count.sin()
        count.copy_(count + 1)
        return result, w.cos(), w.tanh().view(-1)

    module = make_fx(graph)(torch.randn(3), torch.randn(3), torch.randn(3))
    assert [node.name for node in weights.Kept(module, [1, 2]).nodes] == ["exp"]


@pytest.mark.parametrize("device", ["rustorch", "cpu"])
def test_weights_that_change_are_seen(device: str) -> None:
    torch.manual_seed(0)
    model = Model().eval()
    run = compiled(model, device)
    other = Model().to(device)

    def check() -> None:
        for rows in (5, 1, 9):
            x = torch.randn(rows, 300, device=device)
            torch.testing.assert_close(run(x), model(x))
            torch.testing.assert_close(run(x), model(x))

    with torch.no_grad():
        check()
        model.second.weight.mul_(-2)
        check()
        model.load_state_dict(other.state_dict())
        check()
        model.first.weight.data = torch.randn(70, 300, device=device) / 20
        check()
        model.second.weight = nn.Parameter(torch.randn(70, 70, device=device) / 10)
        check()
        model.scale.add_(1)
        check()
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run(torch.randn(5, 300, device=device)).square().mean().backward()
    optimizer.step()
    model.eval()
    with torch.no_grad():
        check()
    with torch.inference_mode():
        check()


def test_weights_of_inference_mode_are_used_as_they_are() -> None:
    with torch.inference_mode():
        model = Model().eval().to("rustorch")
        run = compiled(model, "rustorch")
        x = torch.randn(5, 300, device="rustorch")
        torch.testing.assert_close(run(x), model(x))
        model.second.weight.mul_(-2)
        torch.testing.assert_close(run(x), model(x))


def test_autocast_casts_weights_once() -> None:
    model = Model().eval()
    run = compiled(model, "rustorch")
    x = torch.randn(5, 300, device="rustorch")

    def call(function) -> torch.Tensor:
        # Eager keeps casts of its own within a context.
        with torch.no_grad(), torch.autocast("rustorch", dtype=torch.bfloat16):
            return function(x)

    torch.testing.assert_close(call(run), call(model))
    expected = call(model)
    before = _device_module.memory_allocated()
    for _ in range(3):
        torch.testing.assert_close(call(run), expected)
    assert _device_module.memory_allocated() == before
    # Not counted, as documented: so it shows that the cast is kept.
    model.first.weight.data.zero_()
    torch.testing.assert_close(call(run), expected)
    with torch.no_grad():
        model.first.weight.mul_(1)
    torch.testing.assert_close(call(run), call(model))


def test_the_option_is_for_this_alone() -> None:
    run = torch.compile(nn.Linear(2, 2), backend="rust_backend", options={"keep_weights": True, "cache": True})
    with pytest.raises(Exception, match="not both"):
        run(torch.randn(3, 2))
