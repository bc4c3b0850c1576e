"""`explain`: what `rust_backend` makes of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from rustorch_device import backend
from rustorch_device.graph import GraphReport, NodeReport


@dataclass
class Explanation:
    """What became of a model's graphs. Prints as a short table.

    Attributes:
        graphs: the imported graphs: forward (or inference) and backward, one or more.
        graph_breaks: Dynamo's reasons, each with how often it met it.
    """

    graphs: list[GraphReport] = field(default_factory=list)
    graph_breaks: dict[str, int] = field(default_factory=dict)

    @property
    def nodes(self) -> list[NodeReport]:
        """All nodes of all graphs."""
        return [node for graph in self.graphs for node in graph.nodes]

    @property
    def native(self) -> list[NodeReport]:
        """The nodes that Rust programs compute."""
        return [node for node in self.nodes if node.kind == "native"]

    @property
    def not_native(self) -> list[NodeReport]:
        """The nodes that run by the eager door, each with its reason."""
        return [node for node in self.nodes if node.kind == "eager"]

    def text(self) -> str:
        """The programs, instruction by instruction."""
        return "\n".join(program.text() for graph in self.graphs for program in graph.programs)

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("graph", "native", "views", "not native", "kernels", "arena KiB")]
        for graph in self.graphs:
            kinds = Counter(node.kind for node in graph.nodes)
            kernels = sum(program.instructions for program in graph.programs)
            arena = sum(program.arena_bytes for program in graph.programs) / 1024
            rows.append(
                (graph.name, *(str(kinds[kind]) for kind in ("native", "view", "eager")), str(kernels), f"{arena:.0f}")
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        eager = Counter((node.target, node.reason) for node in self.not_native)
        lines += [f"not native: {target} x{count} ({reason})" for (target, reason), count in eager.items()]
        lines += [f"graph break x{count}: {reason.splitlines()[0]}" for reason, count in self.graph_breaks.items()]
        if not self.graph_breaks:
            lines.append("no graph breaks")
        return "\n".join(lines)


def explain(model: Callable[..., Any], *example_inputs: Any) -> Explanation:
    """Compiles `model` for `example_inputs`, runs it once, forward and (where a result requires
    grad) backward, and tells what became of its nodes. Gradients of parameters are left as they
    were; buffers that a forward pass updates are updated.

    Args:
        model: a module or function, on the CPU or on rustorch.
        example_inputs: its arguments.
    """
    reports: list[GraphReport] = []
    torch._dynamo.reset()
    breaks = torch._dynamo.utils.counters["graph_break"]
    before = Counter(breaks)
    backend.listeners.append(reports)
    try:
        results = torch.compile(model, backend="rust_backend")(*example_inputs)
        losses = [leaf.sum() for leaf in tree_leaves(results) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
        if losses:
            parameters = list(model.parameters()) if isinstance(model, torch.nn.Module) else []
            inputs = [leaf for leaf in tree_leaves(example_inputs) if isinstance(leaf, torch.Tensor)]
            wanted = [leaf for leaf in parameters + inputs if leaf.requires_grad and leaf.is_leaf]
            if wanted:
                torch.autograd.grad(sum(losses), wanted, allow_unused=True)  # type: ignore[arg-type]
    finally:
        backend.listeners.remove(reports)
        torch._dynamo.reset()
    return Explanation(reports, dict(Counter(breaks) - before))
