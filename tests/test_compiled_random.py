"""Compiled random ops draw what eager draws: from the CPU's generator for a model on the CPU, from the
device's for one on rustorch; a checkpointed step draws the same once more.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from compared import FLOATS
from torch import nn
from torch.utils.checkpoint import checkpoint

import rustorch_device

DEVICES = ["cpu", "rustorch"]


pytestmark = pytest.mark.usefixtures("fresh_dynamo")


def seeded(function, *arguments):
    """The function's results, and what the generators of both devices draw next."""
    torch.manual_seed(17)
    results = function(*arguments)
    return results, torch.rand(3), torch.rand(3, device="rustorch").cpu()


def assert_same_draws(function, *arguments):
    expected, *next_expected = seeded(function, *arguments)
    compiled = torch.compile(function, backend="rust_backend")
    for _ in range(2):
        actual, *next_actual = seeded(compiled, *arguments)
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)
        torch.testing.assert_close(next_actual, next_expected, rtol=0, atol=0)


@pytest.mark.parametrize("device", DEVICES)
def test_the_backward_pass_draws_nothing_again(device):
    def function(x):
        noisy = (x * torch.rand_like(x)).sin() * torch.randn_like(x).exp()
        noisy = torch.bernoulli(noisy.detach().sigmoid()) * noisy.tanh() + F.rrelu(noisy, training=True)
        return F.dropout(noisy, 0.3).exp().sum()

    def gradient(function, x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(function(x), x)[0]

    x = torch.randn(13, 7).to(device)
    expected, *next_expected = seeded(gradient, function, x)
    run = torch.compile(function, backend="rust_backend")
    for _ in range(2):
        actual, *next_actual = seeded(gradient, run, x)
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(next_actual, next_expected, rtol=0, atol=0)


LAYOUTS = {
    "empty": lambda: torch.ones(0, 3),
    "one": lambda: torch.ones(1),
    "prime": lambda: torch.ones(1009, 7),
    "transposed": lambda: torch.ones(13, 31).t(),
    "channels last": lambda: torch.ones(2, 3, 5, 7).to(memory_format=torch.channels_last),
    "stepped": lambda: torch.ones(10, 12)[::2, 1::3],
    "expanded": lambda: torch.ones(1, 5).expand(4, 5),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.0, 1.0])
def test_a_mask_is_eagers(device, p):
    assert_same_draws(lambda x: F.dropout(x, p) != 0, torch.ones(700, 3).to(device))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_mask_is_cpu_eagers_in_every_layout(layout):
    assert_same_draws(lambda x: F.dropout(x, 0.3) != 0, LAYOUTS[layout]())


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_mask_is_cpu_eagers_in_every_dtype(dtype):
    assert_same_draws(lambda x: F.dropout(x, 0.3) != 0, torch.ones(257, dtype=dtype))


@pytest.mark.parametrize("device", DEVICES)
def test_ops_that_draw_in_turn(device):
    def function(x):
        first = F.dropout(x, 0.5)
        noise = torch.randn_like(x) + torch.rand(7, device=x.device) + torch.randint(5, (7,), device=x.device)
        second = F.dropout(x + 1, 0.2)
        return first == 0, noise, torch.bernoulli(x / 3), second == 0, F.dropout2d(x[None, :, None, None], 0.5)

    assert_same_draws(function, torch.ones(7).to(device))


def test_dropout_of_a_cpu_model_is_native():
    x = torch.ones(50, requires_grad=True)
    report = rustorch_device.explain(lambda x: F.dropout(x, 0.5) * 2, x)
    assert not report.not_native
    assert "mersenne_dropout" in report.text()


def test_an_op_without_a_kernel_for_the_cpus_generator_is_told():
    report = rustorch_device.explain(lambda x: torch.randn_like(x) * x, torch.ones(5))
    assert [(node.target, "the CPU's generator" in node.reason) for node in report.not_native] == [
        ("aten.randn_like.default", True)
    ]


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 33), nn.Linear(33, 6)
        self.checkpointed = False

    def middle(self, x):
        return F.dropout(self.second(F.dropout(self.first(x).relu(), 0.5)), 0.3)

    def forward(self, x):
        x = F.dropout(x, 0.1)
        for _ in range(2):
            x = checkpoint(self.middle, x, use_reentrant=False) if self.checkpointed else self.middle(x)
        return x


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_checkpoint_has_the_gradients_of_the_plain_step(device, compiled):
    torch.manual_seed(0)
    plain = Checkpointed().to(device)
    again = copy.deepcopy(plain)
    again.checkpointed = True
    run = torch.compile(again, backend="rust_backend") if compiled else again
    x = torch.randn(9, 6).to(device)
    for seed in (1, 2, 2):
        results = []
        for model, call in ((plain, plain), (again, run)):
            model.zero_grad()
            torch.manual_seed(seed)
            out = call(x)
            torch.rand(5, device=device)  # What is drawn between forward and backward changes nothing.
            out.square().sum().backward()
            results.append([out.detach(), torch.rand(2, device=device), *(p.grad for p in model.parameters())])
        torch.testing.assert_close(results[1], results[0])
    assert not compiled or not torch._dynamo.utils.counters["graph_break"]
