"""Ops over lists of tensors: plain lists in one launch, others as the CPU does them."""

import pytest
import torch
from compared import DEVICE, check, check_error, numbers, on_device

FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
UNARY = [
    "abs",
    "acos",
    "asin",
    "atan",
    "ceil",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "expm1",
    "floor",
    "frac",
    "lgamma",
    "log",
    "log10",
    "log1p",
    "log2",
    "neg",
    "reciprocal",
    "round",
    "rsqrt",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
]
BINARY = ["add", "sub", "mul", "div", "clamp_min", "clamp_max", "maximum", "minimum", "pow"]
SIZES = [(3, 5), (1,), (0, 4), (), (257, 3)]


def lists(count, dtype=torch.float32, sizes=SIZES):
    def numbered(which):
        return [numbers(*size, dtype=dtype, seed=7 * which + at) for at, size in enumerate(sizes)]

    return [numbered(which) for which in range(count)]


def stepped(tensors):
    return [torch.stack([tensor, tensor], -1)[..., 0] for tensor in tensors]


def both_forms(name, *arguments):
    """The functional form, and what the in-place one leaves in its first list."""
    check(lambda *given: getattr(torch, f"_foreach_{name}")(*given), *arguments)

    def in_place(first, *rest):
        first = [tensor.clone() for tensor in first]
        getattr(torch, f"_foreach_{name}_")(first, *rest)
        return first

    check(in_place, *arguments)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_of_one_list(name, dtype):
    both_forms(name, *lists(1, dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", BINARY)
def test_with_a_number_numbers_and_a_list(name, dtype):
    first, second = lists(2, dtype)
    for other in (second, 0.75, 2, [1.5, 2, 3.0, 0.5, 1.0]):
        both_forms(name, [tensor.abs() for tensor in first] if name == "pow" else first, other)


@pytest.mark.parametrize("name", ["add", "mul", "div"])
def test_with_a_number_on_the_device(name):
    (first,) = lists(1)
    for number in (torch.tensor(1.5), torch.tensor(2.5, dtype=torch.float64), torch.tensor(3)):
        both_forms(name, first, number)


def test_alpha():
    first, second = lists(2)
    check(lambda a, b: torch._foreach_add(a, b, alpha=2.5), first, second)
    check(lambda a, b: torch._foreach_sub(a, b, alpha=-0.5), first, second)
    check(lambda a, b: torch._foreach_add(a, b, alpha=2.5), first, torch.tensor(2.0))


@pytest.mark.parametrize("dtype", FLOATS)
def test_of_three_lists(dtype):
    first, second, third = lists(3, dtype)
    third = [tensor.abs() + 1 for tensor in third]
    for name in ("addcmul", "addcdiv"):
        both_forms(name, first, second, third, 0.5)
        both_forms(name, first, second, third, [1.0, 2.0, 3.0, 4.0, 5.0])
    both_forms("lerp", first, second, third)
    both_forms("lerp", first, second, 0.3)
    both_forms("lerp", first, second, [0.1, 0.7, 0.5, 1.0, 0.0])
    scalars = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    mine = torch._foreach_addcmul(*on_device([first, second, third]), scalars)
    for got, wanted in zip(mine, torch._foreach_addcmul(first, second, third, scalars), strict=True):
        torch.testing.assert_close(got.cpu(), wanted)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("order", [0, 1, 2, 3.5, float("inf")])
def test_norm(order, dtype):
    sizes = [(3, 5), (1,), (), (257, 3)]
    (first,) = lists(1, dtype, sizes)
    check(lambda a: torch._foreach_norm(a, order), first)
    check(lambda a: torch._foreach_norm(a, order), stepped(first))
    if order != float("inf"):
        check(lambda a: torch._foreach_norm(a, order), lists(1, dtype)[0])


def test_lists_that_are_not_plain():
    first, second = lists(2)
    both_forms("add", stepped(first), second)
    both_forms("mul", first, stepped(second))
    both_forms("add", [tensor.double() for tensor in first], second)
    check(torch._foreach_add, first, [tensor.double() for tensor in second])
    broadcast = [torch.randn(1) for _ in first]
    check(torch._foreach_mul, first, broadcast)
    whole = lists(1, torch.int64)[0]
    check(torch._foreach_add, whole, 3)
    check(torch._foreach_add, whole, 1.5)
    check(torch._foreach_div, whole, 2)
    check(torch._foreach_sqrt, [tensor.abs() for tensor in whole])
    flags = lists(1, torch.bool)[0]
    check(torch._foreach_pow, flags, 2)
    check(torch._foreach_add, flags, flags)
    check(torch._foreach_clamp_min, whole, 3)
    check(torch._foreach_maximum, flags, flags)


def test_one_tensor_twice_is_written_twice():
    def twice(tensor):
        tensor = tensor.clone()
        torch._foreach_mul_([tensor, tensor], 2.0)
        return tensor

    check(twice, torch.randn(100_000))


def test_copy_and_zero():
    first, second = lists(2)

    def copied(to, source):
        to = [tensor.clone() for tensor in to]
        torch._foreach_copy_(to, source)
        return to

    def zeroed(tensors):
        tensors = [tensor.clone() for tensor in tensors]
        torch._foreach_zero_(tensors)
        return tensors

    check(copied, first, second)
    check(copied, first, stepped(second))
    check(copied, first, [tensor.to(torch.bfloat16) for tensor in second])
    check(copied, first, [torch.randn(()) for _ in second])
    check(zeroed, first)
    check(zeroed, stepped(first))
    check(zeroed, [tensor.to(torch.complex64) for tensor in first])


def test_errors():
    first, second = lists(2)
    check_error(torch._foreach_add, first, second[1:])
    check_error(torch._foreach_add, first, [1.0, 2.0])
    check_error(torch._foreach_add_, first[:1], [torch.randn(2, 2)])
    check_error(torch._foreach_add, [], 1.0)
    check_error(torch._foreach_add, first, torch.ones(1))


def test_gradients():
    first, second = torch.randn(3, 4), torch.randn(3, 4)
    check(lambda a, b: [x * 2 for x in torch._foreach_mul([a, b], [b, a])], first, second, grad=True)
    check(lambda a: torch._foreach_norm([a, a.sin()]), torch.randn(5, 3), grad=True)


def test_one_launch_for_a_list():
    (first,) = on_device(lists(1))
    with torch.profiler.profile() as profile:
        torch._foreach_mul_(first, 2.0)
    # The profiler tells the call and the device's work.
    calls = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CPU]
    kernels = [event.name for event in calls if event.name.startswith("rustorch::")]
    assert kernels == ["rustorch::foreach"]
    assert all(tensor.device.type == DEVICE for tensor in first)
