"""Helpers for optimizers: parameter groups, gradient clipping within the step, state on another device.

`torch.optim`'s own optimizers run on rustorch; nothing here replaces them.

    optimizer = torch.optim.AdamW(
        optim.groups(model, optim.no_decay(), optim.matching(r"^head\\.", lr=1e-2)), lr=1e-3, fused=True
    )
    norm = optim.clipped_step(optimizer, max_norm=1.0)
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.amp.grad_scaler import OptState

__all__ = ["Rule", "clipped_step", "follow_parameters", "groups", "layerwise", "matching", "no_decay"]

#: Gives the options that a parameter gets beyond the optimizer's defaults.
Rule = Callable[[str, nn.Parameter], Mapping[str, Any]]


def groups(model: nn.Module, *rules: Rule) -> list[dict[str, Any]]:
    """The model's trained parameters, with their names, as groups for any optimizer of `torch.optim`.

    Each rule adds options to the parameters that it concerns, later ones over earlier ones; parameters
    with the same options make one group. Groups and parameters are in the order of the model. A tied
    parameter is there once, under its first name. Raises ValueError where nothing is trained, and for a
    pattern or a layer that fits no parameter of the model.
    """
    found: dict[tuple[tuple[str, Any], ...], dict[str, Any]] = {}
    parameters = dict(model.named_parameters())
    for rule in rules:
        if isinstance(rule, _ByName):
            rule.expect_some(parameters)
    for name, parameter in parameters.items():
        if not parameter.requires_grad:
            continue
        options: dict[str, Any] = {}
        for rule in rules:
            options |= rule(name, parameter)
        group = found.setdefault(tuple(sorted(options.items())), {"params": [], **options})
        group["params"].append((name, parameter))
    if not found:
        raise ValueError("the model has no parameter that is trained")
    return list(found.values())


class _ByName:
    """A rule that names what it concerns: each of `fits`, by what it stands for, is to fit some parameter."""

    def __init__(self, rule: Rule, fits: Mapping[str, Callable[[str], bool]]) -> None:
        self.rule = rule
        self.fits = fits

    def __call__(self, name: str, parameter: nn.Parameter) -> Mapping[str, Any]:
        return self.rule(name, parameter)

    def expect_some(self, names: Collection[str]) -> None:
        for stands_for, fits in self.fits.items():
            if not any(map(fits, names)):
                shown = ", ".join(list(names)[:8]) + (", .." if len(names) > 8 else "")
                raise ValueError(f"{stands_for} fits no parameter of the model, which has {shown}")


def _pattern_fits(patterns: Iterable[re.Pattern[str]]) -> dict[str, Callable[[str], bool]]:
    def found(pattern: re.Pattern[str], name: str) -> bool:
        return pattern.search(name) is not None

    return {f"the pattern {pattern.pattern!r}": partial(found, pattern) for pattern in patterns}


def matching(pattern: str, **options: Any) -> Rule:
    """Gives `options` to parameters in whose name the regular expression is found."""
    compiled = re.compile(pattern)
    return _ByName(lambda name, parameter: options if compiled.search(name) else {}, _pattern_fits([compiled]))


def no_decay(*patterns: str) -> Rule:
    """Weight decay 0 for parameters of fewer than two dimensions (biases, the weights of norms), and for
    those in whose name one of the regular expressions is found."""
    compiled = [re.compile(pattern) for pattern in patterns]

    def rule(name: str, parameter: nn.Parameter) -> Mapping[str, Any]:
        spared = parameter.ndim < 2 or any(pattern.search(name) for pattern in compiled)
        return {"weight_decay": 0.0} if spared else {}

    return _ByName(rule, _pattern_fits(compiled))


def layerwise(layers: Sequence[str], lr: float, decay: float) -> Rule:
    """Learning rates that fall from the output to the input: the last of `layers` gets `lr`, the one before
    it `lr * decay`, and so on.

    A layer is a name, as in `model.named_modules()`, and holds the parameters below it; the longest name
    that fits counts. Parameters in no layer keep the optimizer's rate.
    """
    rates = {layer: lr * decay ** (len(layers) - 1 - depth) for depth, layer in enumerate(layers)}

    def holds(layer: str, name: str) -> bool:
        return name == layer or name.startswith(f"{layer}.")

    def rule(name: str, parameter: nn.Parameter) -> Mapping[str, Any]:
        fitting = [layer for layer in rates if holds(layer, name)]
        return {"lr": rates[max(fitting, key=len)]} if fitting else {}

    return _ByName(rule, {f"the layer {layer!r}": partial(holds, layer) for layer in rates})


@torch.no_grad()
def clipped_step(
    optimizer: torch.optim.Optimizer,
    max_norm: float,
    norm_type: float = 2.0,
    scaler: torch.amp.GradScaler | None = None,
) -> torch.Tensor:
    """A step with the gradients scaled down to a norm of `max_norm` where theirs is larger; gives their norm.

    It does what `torch.nn.utils.clip_grad_norm_` and `optimizer.step()` do. A fused optimizer scales the
    gradients in the step's own pass over them, as it does for a gradient scaler; others are clipped first.
    With `scaler`, the gradients are of a scaled loss: the norm is of the unscaled ones, the step is left
    out where one is not finite, and `scaler.update()` remains to be called. Raises ValueError for a
    `max_norm` that is not positive.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be positive, got {max_norm}")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    fused = getattr(optimizer, "_step_supports_amp_scaling", False)
    # The scaler whose scale the gradients still have.
    scaling = scaler if scaler is not None and scaler.is_enabled() and not _is_unscaled(scaler, optimizer) else None
    if scaling is not None and not fused:
        scaling.unscale_(optimizer)
    if fused:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients, norm_type)
        if scaling is not None:
            # The step divides by the scaler's scale as well.
            norm = norm / scaling.get_scale()
        optimizer.grad_scale = ((norm + 1e-6) / max_norm).clamp(min=1.0)  # type: ignore[attr-defined]
    else:
        norm = nn.utils.clip_grad_norm_(parameters, max_norm, norm_type)
    try:
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
    finally:
        # The scaler's step takes it away by itself.
        vars(optimizer).pop("grad_scale", None)
    return norm


def _is_unscaled(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> bool:
    """Whether `scaler.unscale_(optimizer)` was called since the last step."""
    return scaler._per_optimizer_states[id(optimizer)]["stage"] is OptState.UNSCALED


def follow_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Moves the optimizer's state to the devices that its parameters are on, after `model.to(device)`.

    The counts of steps stay on the CPU unless the optimizer is fused or capturable, as `torch.optim` has it.
    """
    for group in optimizer.param_groups:
        with_parameter = group.get("fused") or group.get("capturable")
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            for key, value in state.items():
                if isinstance(value, torch.Tensor):
                    count = key == "step" and not with_parameter
                    state[key] = value.to("cpu" if count else parameter.device)
