"""Calls a program and writes down what came of it. Printed programs contain these functions."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from fuzz.custom_ops import RUN

#: What came of a call: tensors by what they are ("result v1", "input a", "gradient of a"), or "raised".
Outcome = dict[str, Any]


def tangent(result: torch.Tensor) -> torch.Tensor:
    """The gradient that a result is given: it differs from element to element."""
    ramp = torch.arange(result.numel()) % 5 - 2
    return (ramp / 2).to(result.dtype).view(result.shape).to(result.device)


def backward(names: Sequence[str], arguments: list[torch.Tensor], outcome: Outcome) -> None:
    results = [outcome[key] for key in outcome if key.startswith("result ") and outcome[key].requires_grad]
    try:
        if results:
            torch.autograd.backward(results, [tangent(result) for result in results])
    except Exception as error:
        outcome["backward raised"] = (type(error), str(error))
    for name, argument in zip(names, arguments, strict=True):
        outcome[f"gradient of {name}"] = argument.grad


def calls(
    function: Callable[..., Any],
    inputs: Callable[[int, str], dict[str, torch.Tensor]],
    results: Sequence[str],
    device: str,
    seeds: Sequence[int],
    late_backward: bool = False,
) -> list[Outcome]:
    """The outcomes of one call for each seed, which are looked at when all are over: no call harms an earlier one's.

    Args:
        results: the names of what `function` gives.
        late_backward: all forward passes run before the first backward pass.
    """
    outcomes: list[Outcome] = []
    pending: list[tuple[int, list[str], list[torch.Tensor], Outcome]] = []
    for seed in seeds:
        given = inputs(seed, device)
        names, arguments = list(given), list(given.values())
        outcome: Outcome = {}
        outcomes.append(outcome)
        RUN["number"] = seed + 1
        try:
            values = function(*arguments)
        except Exception as error:
            outcome["raised"] = (type(error), str(error))
            continue
        outcome.update({f"result {name}": value for name, value in zip(results, values, strict=True)})
        outcome.update({f"input {name}": argument for name, argument in given.items()})
        if late_backward:
            pending.append((seed, names, arguments, outcome))
        else:
            backward(names, arguments, outcome)
    for seed, names, arguments, outcome in pending:
        RUN["number"] = seed + 1
        backward(names, arguments, outcome)
    return outcomes
