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


# Loops take groups of 64 elements, then of 8, then one by one; tasks 32,768.
COUNTS = [1, 7, 8, 9, 63, 64, 65, 71, 72, 127, 200, 32_767, 32_840]
IN_PLACE = {
    "exp": lambda x, y: x.exp_(),
    "by a number": lambda x, y: x.mul_(1.25),
    "itself": lambda x, y: x.mul_(x),
    "the second": lambda x, y: torch.sub(y, x, out=x),
    "both": lambda x, y: torch.atan2(x, x, out=x),
    # Arguments that are rare have a slower expression.
    "sin": lambda x, y: x.mul_(1e10).sin_(),
    "some rare": lambda x, y: torch.where(y > 1, x * 1e12, x).cos_(),
    "ternary": lambda x, y: x.addcmul_(x, y, value=0.5),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_on_any_count(name):
    op = IN_PLACE[name]
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for count in COUNTS:
            x, y = torch.randn(count).to(dtype), torch.randn(count).to(dtype)
            there = x.to("rustorch")
            apart = op(there.clone(), y.to("rustorch"))
            # In place within a larger tensor, at an odd offset: what is around it stays.
            around = torch.full((count + 6,), 3.0, dtype=dtype, device="rustorch")
            inside = around[3:-3]
            inside.copy_(there)
            result = op(inside, y.to("rustorch"))
            assert torch.equal(result, apart)
            assert (around[:3] == 3).all() and (around[-3:] == 3).all()
            torch.testing.assert_close(result.cpu(), op(x.clone(), y))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool], ids=str)
def test_integers_in_place_on_any_count(dtype):
    for count in COUNTS:
        x, y = torch.randint(0, 2, (count,)).to(dtype), torch.randint(0, 2, (count,)).to(dtype)
        there = x.to("rustorch")
        there.bitwise_xor_(y.to("rustorch"))
        assert torch.equal(there.cpu(), x ^ y)
        assert torch.equal((there < y.to("rustorch")).cpu(), (x ^ y) < y)
