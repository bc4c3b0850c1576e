"""What programs put between themselves and the ops: subclasses, modes, hooks."""

from typing import ClassVar

import pytest
import torch
from compared import DEVICE
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.checkpoint import checkpoint

DEVICES = ["cpu", DEVICE]


class Counted(torch.Tensor):
    """A tensor around another, which notes the ops that reach it."""

    seen: ClassVar[list[str]] = []

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Counted":
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), dtype=inner.dtype, device=inner.device
        )

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):
        cls.seen.append(op._schema.name)
        unwrapped = tree_map_only(cls, lambda tensor: tensor.inner, (args, kwargs or {}))
        return tree_map_only(torch.Tensor, cls, op(*unwrapped[0], **unwrapped[1]))


def test_a_subclass_that_wraps():
    ran = []
    for device in DEVICES:
        Counted.seen = []
        x = Counted(torch.arange(6.0, device=device).view(2, 3))
        assert x.device.type == device
        result = torch.relu(x @ x.t() - 20).sum()
        assert type(result) is Counted and result.inner.device.type == device
        ran.append((Counted.seen, result.inner.item()))
    assert ran[0] == ran[1] and "aten::relu" in ran[0][0]


def test_gradients_through_a_subclass():
    gradients = []
    for device in DEVICES:
        x = Counted(torch.arange(1.0, 4.0, device=device)).requires_grad_()
        (x * x).sum().backward()
        gradients.append(x.grad.inner.tolist())
    assert gradients[0] == gradients[1] == [2, 4, 6]


class Plain(torch.Tensor):
    """A subclass without an override: it stays itself through ops."""


def test_a_plain_subclass():
    x = torch.ones(3, device=DEVICE).as_subclass(Plain)
    assert type(x + 1) is type(x[1:]) is Plain and (x + 1).device.type == DEVICE
    assert (x + 1).tolist() == [2, 2, 2]


def test_a_dispatch_mode_sees_every_op():
    class Recorded(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.ops = []

        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            self.ops.append(op._schema.name)
            return op(*args, **(kwargs or {}))

    runs = []
    for device in DEVICES:
        x = torch.ones(2, 3, device=device, requires_grad=True)
        with Recorded() as mode:
            loss = (x * 3).tanh().sum()
            loss.backward()
        runs.append((mode.ops, loss.item()))
        assert x.grad.device.type == device
    assert runs[0][0] == runs[1][0] and runs[0][1] == pytest.approx(runs[1][1])
    assert {"aten::mul.Tensor", "aten::mul"} & set(runs[0][0])


def test_a_function_mode_sees_every_call():
    class Doubled(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            return result * 2 if function is torch.add else result

    x = torch.ones(2, device=DEVICE)
    with Doubled():
        assert torch.add(x, x).tolist() == [4, 4]
    assert torch.add(x, x).tolist() == [2, 2]


def test_module_hooks():
    runs = []
    for device in DEVICES:
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        for parameter in model.parameters():
            nn.init.constant_(parameter, 0.5)
        model.to(device)
        seen = []
        model[0].register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
        model[1].register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output.tolist()))
        model[2].register_full_backward_pre_hook(
            lambda module, gradients, seen=seen: seen.append(gradients[0].tolist())
        )
        model[2].register_full_backward_hook(
            lambda module, inputs, outputs, seen=seen: seen.append([each.tolist() for each in (*inputs, *outputs)])
        )
        model(torch.ones(2, 3, device=device)).sum().backward()
        runs.append((seen, [parameter.grad.tolist() for parameter in model.parameters()]))
    assert runs[0] == runs[1] and len(runs[0][0]) == 3


def test_tensor_hooks():
    for device in DEVICES:
        x = torch.ones(3, device=device, requires_grad=True)
        seen = []
        x.register_hook(lambda gradient: gradient * 10)
        x.register_post_accumulate_grad_hook(lambda tensor, seen=seen: seen.append(tensor.grad.tolist()))
        middle = x * 2
        middle.retain_grad()
        middle.register_hook(lambda gradient, seen=seen: seen.append(gradient.tolist()))
        middle.sum().backward()
        assert seen == [[1, 1, 1], [20, 20, 20]]
        assert middle.grad.tolist() == [1, 1, 1] and middle.grad.device.type == device


def test_an_optimizer_in_the_backward():
    parameters = [nn.Parameter(torch.ones(3, device=DEVICE)) for _ in range(2)]
    for parameter in parameters:
        stepper = torch.optim.SGD([parameter], lr=0.5)

        def step(tensor, stepper=stepper):
            stepper.step()
            stepper.zero_grad()

        parameter.register_post_accumulate_grad_hook(step)
    sum((parameter * 2).sum() for parameter in parameters).backward()
    assert all(parameter.tolist() == [0, 0, 0] and parameter.grad is None for parameter in parameters)


def test_saved_tensors_go_elsewhere_and_return():
    x = torch.rand(4, 4, device=DEVICE, requires_grad=True)
    (expected,) = torch.autograd.grad((x.exp() * x).sum(), x)
    with torch.autograd.graph.save_on_cpu():
        result = (x.exp() * x).sum()
    assert torch.equal(torch.autograd.grad(result, x)[0].cpu(), expected.cpu())


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointed_activations(use_reentrant):
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Tanh()).to(DEVICE)
    x = torch.rand(5, 3, device=DEVICE, requires_grad=True)
    gradients = []
    for again in (False, True):
        torch.manual_seed(3)
        result = checkpoint(model, x, use_reentrant=use_reentrant) if again else model(x)
        gradients.append(torch.autograd.grad(result.sum(), model[0].weight) if not use_reentrant else None)
        if use_reentrant:
            model.zero_grad()
            result.sum().backward()
            gradients[-1] = (model[0].weight.grad.clone(),)
    assert torch.equal(gradients[0][0].cpu(), gradients[1][0].cpu())


def test_an_autograd_function():
    class Cubed(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            context.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(context, gradient):
            (x,) = context.saved_tensors
            return gradient * 3 * x**2

    x = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64, device=DEVICE, requires_grad=True)
    Cubed.apply(x).sum().backward()
    assert x.grad.tolist() == [3, 12, 27]
    assert torch.autograd.gradcheck(Cubed.apply, x)


def test_anomalies_are_found():
    x = torch.zeros(1, device=DEVICE, requires_grad=True)
    with torch.autograd.set_detect_anomaly(True), pytest.raises(RuntimeError, match="returned nan"):
        (x.sqrt() * 0).sum().backward()
