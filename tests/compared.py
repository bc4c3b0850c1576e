"""Runs a function on the CPU and on rustorch, and compares: values, gradients, errors."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import rustorch_device  # noqa: F401  loads the device

DEVICE = "rustorch"
FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
ALL = [*FLOATS, *INTEGERS, torch.bool]


def on_device(value: Any) -> Any:
    """The same value with its tensors moved, strides kept."""
    if isinstance(value, torch.Tensor):
        # What a dimension repeats is moved once.
        once = value.detach()[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in value.stride())]
        moved = torch.empty_strided(once.size(), once.stride(), dtype=value.dtype, device=DEVICE)
        moved = moved.copy_(once).expand(value.size())
        return moved.requires_grad_(value.requires_grad)
    if isinstance(value, (list, tuple)):
        return type(value)(on_device(item) for item in value)
    return value


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in tensors(item)]
    return []


def assert_same(actual: torch.Tensor, expected: torch.Tensor, **tolerance: float) -> None:
    assert actual.device.type == DEVICE
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    torch.testing.assert_close(actual.cpu(), expected, equal_nan=True, **tolerance)


def check(function: Callable[..., Any], *arguments: Any, grad: bool = False, **tolerance: float) -> None:
    """`function` gives the same on both devices; with `grad`, so do its gradients, and those of
    f64 agree with finite differences.
    """
    if grad:
        arguments = tuple(
            argument.clone().requires_grad_()
            if isinstance(argument, torch.Tensor) and argument.is_floating_point()
            else argument
            for argument in arguments
        )
    moved = on_device(arguments)
    expected, actual = tensors(function(*arguments)), tensors(function(*moved))
    assert len(actual) == len(expected)
    for mine, theirs in zip(actual, expected, strict=True):
        assert_same(mine.detach(), theirs.detach(), **tolerance)
    if not grad:
        return
    seeds = [torch.randn_like(tensor) if tensor.requires_grad else None for tensor in expected]
    for results, given in ((expected, seeds), (actual, on_device(seeds))):
        pairs = [(result, seed) for result, seed in zip(results, given, strict=True) if seed is not None]
        torch.autograd.backward([result for result, _ in pairs], [seed for _, seed in pairs])
    for mine, theirs in zip(tensors(moved), tensors(list(arguments)), strict=True):
        if theirs.grad is not None:
            assert mine.grad is not None
            assert_same(mine.grad, theirs.grad, **tolerance)


def check_error(function: Callable[..., Any], *arguments: Any) -> None:
    """`function` raises on rustorch what it raises on the CPU."""
    with pytest.raises(Exception) as expected:
        function(*arguments)
    with pytest.raises(expected.type):
        function(*on_device(arguments))


def numbers(*size: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Values that every dtype can tell apart."""
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.bool:
        return torch.rand(size, generator=generator) > 0.5
    if dtype.is_floating_point:
        return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)
    return torch.randint(0 if dtype == torch.uint8 else -100, 100, size, generator=generator).to(dtype)
