"""Runs a case in each arm and compares what comes out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from rustorch_device import _device_module, backend
from rustorch_device.graph import GraphReport
from rustorch_device.parity.models import Case

STEPS = 5
LEARNING_RATE = 2e-4


@dataclass(frozen=True)
class Tolerance:
    """The floors: how far a result may lie from that in f64 where the CPU's own error is none.

    Attributes:
        rtol, atol: element by element, for inference, outputs, losses and single nodes.
        norm: of the norm of the difference to the tensor's, for gradients, and what training makes of parameters and
            buffers.
        corner: the same for models with corners (`CORNERS`), where one activation at rounding's distance from a corner
            changes whole elements of a gradient. What `STEPS` steps leave may be as many times further off: the next
            steps build on it.
    """

    rtol: float
    atol: float
    norm: float
    corner: float


TOLERANCE = {
    torch.float64: Tolerance(1e-7, 1e-9, 1e-7, 1e-5),
    torch.float32: Tolerance(1.3e-6, 1e-5, 1e-5, 0.02),
    torch.bfloat16: Tolerance(1.6e-2, 1e-5, 0.02, 0.05),
    torch.float16: Tolerance(1e-3, 1e-5, 2e-3, 0.03),
}
#: How many times the CPU's own error, in the same dtype beside f64, another device may be off, beyond the floor.
FACTOR = 2.0
#: What is compared by its norm.
BY_NORM = ("grad", "update", "buffer")
#: A tensor's norm counts as no less than this part of what its size would give it among its kind: a
#: gradient that is zero but for rounding (a weight between two batch norms) is not held to rounding.
FLOOR = 0.1
#: Ops whose gradient jumps, by how their names start.
CORNERS = ("relu", "leaky_relu", "hardtanh", "hardswish", "hardsigmoid", "threshold", "max", "clamp", "abs", "where")
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
        worst: the largest error in units of what is allowed: above 1, it is a mismatch.
        where: the tensor with that error.
        error: what the arm raised, if it did.
        fallbacks: ops that ran on PyTorch's CPU kernels, each with how often.
        outside: nodes of compiled graphs that ran outside of Rust programs, each with the reason.
    """

    worst: float = 0.0
    where: str = ""
    error: str = ""
    fallbacks: dict[str, int] = field(default_factory=dict)
    outside: dict[str, str] = field(default_factory=dict)
    graph_breaks: int = 0

    @property
    def agrees(self) -> bool:
        """Whether the arm ran, and every tensor is within the tolerance."""
        return not self.error and self.worst <= 1.0


def distance(actual: torch.Tensor, expected: torch.Tensor, tolerance: Tolerance) -> float:
    """The largest error of any element, in units of the tolerance. Infinite where shapes or dtypes
    differ, or one is NaN or infinite and the other is not the same."""
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return float("inf")
    if expected.numel() == 0:
        return 0.0
    if not expected.is_floating_point():
        return 0.0 if torch.equal(actual, expected) else float("inf")
    mine, theirs = actual.double(), expected.double()
    same = (mine == theirs) | (mine.isnan() & theirs.isnan())
    difference = torch.where(same, 0.0, (mine - theirs).abs().nan_to_num(nan=float("inf"), posinf=float("inf")))
    ratio = difference / (tolerance.atol + tolerance.rtol * theirs.abs())
    return float(torch.where(same, 0.0, ratio.nan_to_num(nan=float("inf"), posinf=float("inf"))).max())


def norm_distances(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], kind: str) -> dict[str, float]:
    """For each floating tensor of a kind: the norm of the difference relative to the tensor's."""
    theirs = {
        name: tensor.double()
        for name, tensor in expected.items()
        if name.startswith(kind) and tensor.is_floating_point()
    }
    count = sum(tensor.numel() for tensor in theirs.values())
    mean_square = float(sum(tensor.square().sum() for tensor in theirs.values())) / max(count, 1)
    distances = {}
    for name, tensor in theirs.items():
        if name not in actual or actual[name].shape != tensor.shape:
            distances[name] = float("inf")
            continue
        norm = float(tensor.norm()) + FLOOR * (mean_square * tensor.numel()) ** 0.5
        apart = float((actual[name].double() - tensor).norm())
        distances[name] = 0.0 if apart == 0 else apart / norm if norm and apart == apart else float("inf")
    return distances


@dataclass
class Reference:
    """What eager PyTorch on the CPU gives, in the dtype that is compared and in f64."""

    given: dict[str, torch.Tensor]
    exact: dict[str, torch.Tensor]
    has_corners: bool = False

    def element_error(self, name: str, actual: torch.Tensor, tolerance: Tolerance) -> float:
        """The largest error of any element, in units of what is allowed."""
        theirs, exact = self.given[name], self.exact[name]
        if actual.dtype != theirs.dtype or not actual.is_floating_point():
            return distance(actual, theirs, tolerance)
        own = distance(theirs.double(), exact, tolerance)
        if own == float("inf"):
            # Where the CPU overflows, only its own numbers will do.
            return distance(actual, theirs, tolerance)
        return distance(actual.double(), exact, tolerance) / (1 + FACTOR * own)

    def norm_errors(self, kind: str, actual: dict[str, torch.Tensor], tolerance: Tolerance) -> dict[str, float]:
        """For each tensor of a kind that is compared by its norm: its error, in units of what is allowed."""
        floor = tolerance.corner if self.has_corners else tolerance.norm
        floor *= 1 if kind == "grad" else STEPS
        own = max(norm_distances(self.given, self.exact, kind).values(), default=0.0)
        errors = norm_distances(actual, self.exact, kind)
        return {name: error / (floor + FACTOR * own) for name, error in errors.items()}


class _Names(TorchDispatchMode):
    """Keeps the names of the ops that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs `func`."""
        self.names.add(func._schema.name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


def reference(case: Case, dtype: torch.dtype) -> Reference:
    """Runs the case on the CPU."""
    given = run(case, "cpu", False, dtype).tensors
    exact = given if dtype == torch.float64 else run(case, "cpu", False, torch.float64).tensors
    model, inputs = prepared(case, "cpu", torch.float64)
    with torch.no_grad(), _Names() as seen:
        model(*inputs)
    return Reference(given, exact, any(name.startswith(CORNERS) for name in seen.names))


def _named(prefix: str, value: Any) -> dict[str, torch.Tensor]:
    tensors = [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]
    return {f"{prefix}[{index}]": tensor.detach().cpu().clone() for index, tensor in enumerate(tensors)}


def prepared(case: Case, device: str, dtype: torch.dtype) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """A copy of the case's model, and its inputs, on a device; what is floating is cast."""

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else tensor.dtype)

    model = copy.deepcopy(case.model).to(device=device, dtype=dtype)
    return model, tree_map_only(torch.Tensor, moved, case.inputs)


def run(case: Case, device: str, compiled: bool, dtype: torch.dtype) -> Outcome:
    """Inference, then training steps by SGD with momentum, of a copy of the case's model.

    Args:
        device: "cpu" or "rustorch".
        compiled: through `rust_backend`.
        dtype: of the parameters, and of inputs that are floating.
    """

    torch.manual_seed(0)
    model, inputs = prepared(case, device, dtype)
    initial = [parameter.detach().clone() for parameter in model.parameters()]
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
    # How far the parameters moved, in units of a gradient: where they began would hide it.
    for (name, after), before in zip(model.named_parameters(), initial, strict=True):
        outcome.tensors.update(_named(f"update {name}", (after.detach() - before) / LEARNING_RATE))
    for name, buffer in model.named_buffers():
        outcome.tensors.update(_named(f"buffer {name}", buffer))
    outcome.graph_breaks = sum(torch._dynamo.utils.counters["graph_break"].values()) if compiled else 0
    return outcome


def compare(case: Case, arm: str, expected: Reference, dtype: torch.dtype, tolerance: Tolerance) -> Comparison:
    """Runs the case in an arm, and compares it with what the CPU gave."""
    device, compiled = ARMS[arm]
    comparison = Comparison()
    _device_module.reset_fallback_counts()
    before = _device_module.set_fallback_policy("silent")
    reports: list[GraphReport] = []
    backend.listeners.append(reports)
    try:
        actual = run(case, device, compiled, dtype)
    except Exception as error:  # Whatever it is, it is this arm's result, and the report goes on.
        comparison.error = f"{type(error).__name__}: {error}".splitlines()[0]
        return comparison
    finally:
        _device_module.set_fallback_policy(before)
        backend.listeners.remove(reports)
        nodes = [node for report in reports for node in report.nodes if node.kind == "eager"]
        comparison.outside = {node.target: node.reason for node in nodes}
        comparison.fallbacks = dict(_device_module.fallback_counts())
    comparison.graph_breaks = actual.graph_breaks
    errors = {
        name: expected.element_error(name, actual.tensors[name], tolerance) if name in actual.tensors else float("inf")
        for name, tensor in expected.given.items()
        if not name.startswith(BY_NORM) or not tensor.is_floating_point()
    }
    for kind in BY_NORM:
        errors.update(expected.norm_errors(kind, actual.tensors, tolerance))
    comparison.where = max(errors, key=errors.__getitem__, default="")
    comparison.worst = errors.get(comparison.where, 0.0)
    return comparison
