"""Runs a case in each arm and compares what comes out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map_only

from rustorch_device import _device_module
from rustorch_device.parity.models import Case

STEPS = 5
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Tolerance:
    """How far results may lie apart.

    Attributes:
        rtol, atol: element by element, for inference, outputs, losses and single nodes.
        norm: of the norm of the difference to the tensor's, for gradients and what training leaves.
            There one activation at rounding's distance from a ReLU's corner changes whole elements,
            and the next steps build on it.
    """

    rtol: float
    atol: float
    norm: float


TOLERANCE = {
    torch.float64: Tolerance(1e-7, 1e-9, 1e-6),
    torch.float32: Tolerance(1e-3, 2e-4, 2e-2),
    torch.bfloat16: Tolerance(5e-2, 5e-2, 0.3),
    torch.float16: Tolerance(1e-2, 1e-2, 0.1),
}
#: The arms that are compared with eager PyTorch on the CPU: device, and whether compiled.
ARMS = {"eager": ("rustorch", False), "compiled": ("rustorch", True), "compiled_cpu": ("cpu", True)}


@dataclass
class Outcome:
    """What a case gave in one arm: tensors by name, on the CPU."""

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    graph_breaks: int = 0


@dataclass
class Comparison:
    """One arm against the CPU.

    Attributes:
        worst: the largest error in units of the tolerance: above 1, it is a mismatch.
        where: the tensor with that error.
        error: what the arm raised, if it did.
        fallbacks: ops that ran on PyTorch's CPU kernels, each with how often.
    """

    worst: float = 0.0
    where: str = ""
    error: str = ""
    fallbacks: dict[str, int] = field(default_factory=dict)
    graph_breaks: int = 0

    @property
    def agrees(self) -> bool:
        """Whether the arm ran, and every tensor is within the tolerance."""
        return not self.error and self.worst <= 1.0


def distance(actual: torch.Tensor, expected: torch.Tensor, tolerance: Tolerance, by_norm: bool = False) -> float:
    """The error in units of the tolerance: the largest of any element, or that of the norm. Infinite
    where shapes or dtypes differ, or one is NaN or infinite and the other is not the same."""
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return float("inf")
    if expected.numel() == 0:
        return 0.0
    if not expected.is_floating_point():
        return 0.0 if torch.equal(actual, expected) else float("inf")
    mine, theirs = actual.double(), expected.double()
    same = (mine == theirs) | (mine.isnan() & theirs.isnan())
    difference = torch.where(same, 0.0, (mine - theirs).abs().nan_to_num(nan=float("inf")))
    if by_norm:
        allowed = tolerance.norm * theirs.norm() + tolerance.atol * theirs.numel() ** 0.5
        return float(difference.norm() / allowed)
    ratio = difference / (tolerance.atol + tolerance.rtol * theirs.abs())
    return float(torch.where(same, 0.0, ratio.nan_to_num(nan=float("inf"))).max())


def _named(prefix: str, value: Any) -> dict[str, torch.Tensor]:
    tensors = [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]
    return {f"{prefix}[{index}]": tensor.detach().cpu().clone() for index, tensor in enumerate(tensors)}


def run(case: Case, device: str, compiled: bool, dtype: torch.dtype) -> Outcome:
    """Inference, then training steps by SGD with momentum, of a copy of the case's model.

    Args:
        device: "cpu" or "rustorch".
        compiled: through `rust_backend`.
        dtype: of the parameters, and of inputs that are floating.
    """

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else tensor.dtype)

    torch.manual_seed(0)
    model = copy.deepcopy(case.model).to(device=device, dtype=dtype)
    inputs = tree_map_only(torch.Tensor, moved, case.inputs)
    outcome = Outcome()
    call: Callable[..., Any] = model
    if compiled:
        torch._dynamo.reset()
        torch._dynamo.utils.counters["graph_break"].clear()
        call = torch.compile(model, backend="rust_backend", dynamic=False)
    # Without it, Dynamo leaves recurrent layers alone.
    with torch._dynamo.config.patch(allow_rnn=True):
        model.eval()
        with torch.no_grad():
            outcome.tensors.update(_named("inference", call(*inputs)))
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=0.9)
        for step in range(STEPS):
            optimizer.zero_grad()
            results = call(*inputs)
            loss = case.loss(results)
            loss.backward()
            if step == 0:
                outcome.tensors.update(_named("output", results))
                outcome.tensors.update(_named("loss", loss))
                for name, parameter in model.named_parameters():
                    outcome.tensors.update(_named(f"grad {name}", parameter.grad))
            optimizer.step()
    for name, tensor in model.state_dict().items():
        outcome.tensors.update(_named(f"after {STEPS} steps: {name}", tensor))
    outcome.graph_breaks = sum(torch._dynamo.utils.counters["graph_break"].values()) if compiled else 0
    return outcome


def compare(case: Case, arm: str, expected: Outcome, dtype: torch.dtype, tolerance: Tolerance) -> Comparison:
    """Runs the case in an arm, and compares it with what the CPU gave."""
    device, compiled = ARMS[arm]
    comparison = Comparison()
    _device_module.reset_fallback_counts()
    before = _device_module.set_fallback_policy("silent")
    try:
        actual = run(case, device, compiled, dtype)
    except Exception as error:  # Whatever it is, it is this arm's result, and the report goes on.
        comparison.error = f"{type(error).__name__}: {error}".splitlines()[0]
        return comparison
    finally:
        _device_module.set_fallback_policy(before)
        comparison.fallbacks = dict(_device_module.fallback_counts())
    comparison.graph_breaks = actual.graph_breaks
    for name, tensor in expected.tensors.items():
        apart = float("inf")
        if name in actual.tensors:
            apart = distance(actual.tensors[name], tensor, tolerance, name.startswith(("grad", "after")))
        if apart > comparison.worst:
            comparison.worst, comparison.where = apart, name
    return comparison
