"""Pointwise ops whose operands PyTorch hands over in an order of its own, on layouts that the dense
path does not take.
"""

import pytest
import torch
from compared import check

aten = torch.ops.aten
BACKWARD = {
    "threshold": lambda grad, x: aten.threshold_backward(grad, x, 0.1),
    "leaky_relu": lambda grad, x: aten.leaky_relu_backward(grad, x, 0.1, False),
    "elu": lambda grad, x: aten.elu_backward(grad, 1.1, 0.9, 0.8, False, x),
    "hardshrink": lambda grad, x: aten.hardshrink_backward(grad, x, 0.2),
    "softshrink": lambda grad, x: aten.softshrink_backward(grad, x, 0.2),
    "hardtanh": lambda grad, x: aten.hardtanh_backward(grad, x, -0.5, 0.5),
    "hardsigmoid": aten.hardsigmoid_backward,
    "hardswish": aten.hardswish_backward,
    "silu": aten.silu_backward,
    "gelu": aten.gelu_backward,
    "softplus": lambda grad, x: aten.softplus_backward(grad, x, 1.0, 20.0),
    "sigmoid": aten.sigmoid_backward,
    "tanh": aten.tanh_backward,
    "mish": aten.mish_backward,
}
LAYOUTS = {
    "dense": lambda: (torch.randn(7, 5), torch.randn(7, 5)),
    "transposed": lambda: (torch.randn(7, 5), torch.randn(5, 7).t()),
    "broadcast": lambda: (torch.randn(7, 5), torch.randn(5).expand(7, 5)),
    "stepped": lambda: (torch.randn(7, 10)[:, ::2], torch.randn(14, 5)[::2]),
    "empty": lambda: (torch.randn(0, 5), torch.randn(0, 5)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", BACKWARD)
def test_gradients_of_activations(name, layout):
    torch.manual_seed(0)
    check(BACKWARD[name], *LAYOUTS[layout]())


@pytest.mark.parametrize("function", [torch.square, lambda x: x**2, lambda x: x.float() ** 2])
def test_operands_that_promotion_replaces(function):
    check(function, torch.tensor([[True, False, True], [False, True, False]]).t())
