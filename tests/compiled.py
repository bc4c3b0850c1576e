"""Runs a function eagerly on the CPU and compiled, and compares: results, arguments, gradients, errors."""

import torch

DEVICES = ["cpu", "rustorch"]


def moved(value, device):
    """A copy on the device, as lazy as the original."""
    if isinstance(value, torch.Tensor):
        if value.is_conj():
            return moved(value.conj(), device).conj()
        if value.is_neg():
            return torch._neg_view(moved(torch._neg_view(value), device))
        return value.detach().clone().to(device).requires_grad_(value.requires_grad)
    return value


def outcome(function, arguments):
    """Results, what became of the arguments, and their gradients; or the exception's type and first line."""
    try:
        results = function(*arguments)
    except Exception as error:
        return type(error), str(error).splitlines()[0].split(" (")[0]
    results = results if isinstance(results, tuple) else (results,)
    losses = [result.sum().abs() for result in results if isinstance(result, torch.Tensor) and result.requires_grad]
    if losses:
        sum(losses).backward()
    tensors = [argument for argument in arguments if isinstance(argument, torch.Tensor)]
    given = [*results, *tensors, *(tensor.grad for tensor in tensors)]
    return [value.detach().cpu() if isinstance(value, torch.Tensor) else value for value in given]


def check(function, *calls, device, **settings):
    """Compiled once, `function` does for each of the calls' arguments what eager does on the CPU."""
    compiled = torch.compile(function, backend="rust_backend", **settings)
    for arguments in calls:
        expected = outcome(function, [moved(argument, "cpu") for argument in arguments])
        actual = outcome(compiled, [moved(argument, device) for argument in arguments])
        assert len(actual) == len(expected)
        for mine, theirs in zip(actual, expected, strict=True):
            if isinstance(theirs, torch.Tensor):
                torch.testing.assert_close(mine, theirs, equal_nan=True)
            else:
                assert mine == theirs
