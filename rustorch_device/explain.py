"""`explain`: what `rust_backend` makes of a model."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from rustorch_device import _graph_breaks, backend
from rustorch_device._graph_breaks import GraphBreak
from rustorch_device.graph import GraphReport, NodeReport


@dataclass
class Explanation:
    """What became of a model's graphs. Prints as a short table.

    Attributes:
        graphs: the imported graphs: forward (or inference) and backward, one or more.
        graph_breaks: the user's lines that end a graph, with Dynamo's reason, each with how often it was met.
        seconds: of the first call: "dynamo and autograd", which is PyTorch's own tracing, then
            "capture", "passes" and "first run", which are ours.
    """

    graphs: list[GraphReport] = field(default_factory=list)
    graph_breaks: dict[GraphBreak, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

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

    @property
    def coverage(self) -> float:
        """The part of the nodes that compute which Rust programs run."""
        computing = len(self.native) + len(self.not_native)
        return len(self.native) / computing if computing else 1.0

    @property
    def fused(self) -> list[str]:
        """The fused kernels, each as the parts that it joins."""
        kernels = [kernel for graph in self.graphs for program in graph.programs for kernel in program.kernels]
        return [kernel for kernel in kernels if kernel.startswith("fused[")]

    @property
    def moved_bytes(self) -> int:
        """Bytes that the kernels of a run read and write."""
        return sum(program.moved_bytes for graph in self.graphs for program in graph.programs)

    @property
    def saved_bytes(self) -> int:
        """Bytes that a run would move besides, without the passes."""
        return sum(program.captured[1] for graph in self.graphs for program in graph.programs) - self.moved_bytes

    @property
    def peak_bytes(self) -> int:
        """The most that a program takes beside its arguments: its intermediates and its results."""
        programs = [program for graph in self.graphs for program in graph.programs]
        return max((program.peak_bytes for program in programs), default=0)

    @property
    def freed_bytes(self) -> int:
        """Bytes of arguments that programs let go of before their end: mostly what a forward pass has saved."""
        return sum(program.freed_bytes for graph in self.graphs for program in graph.programs)

    def text(self) -> str:
        """The programs, instruction by instruction."""
        return "\n".join(program.text() for graph in self.graphs for program in graph.programs)

    def to_dot(self) -> str:
        """The programs in Graphviz's language: a cluster each, a box a kernel, an arrow a buffer."""
        clusters = []
        for number, graph in enumerate(self.graphs):
            for part, program in enumerate(graph.programs):
                name = f"g{number}p{part}"
                title = f"{graph.name} {part}" if len(graph.programs) > 1 else graph.name
                clusters.append(f'subgraph cluster_{name} {{\n  label="{title}";\n{program.dot(name)}}}\n')
        return "digraph rustorch {\nnode [shape=box];\n" + "".join(clusters) + "}\n"

    def show(self, file: str | Path | None = None) -> Path:
        """Draws the programs as SVG, by Graphviz's `dot`.

        Args:
            file: where to; a new file in the folder for temporary ones by default.

        Returns:
            The file.

        Raises:
            FileNotFoundError: where there is no `dot` on PATH; `to_dot` needs none.
        """
        dot = shutil.which("dot")
        if dot is None:
            raise FileNotFoundError("show() draws by Graphviz's `dot`, which is not on PATH; to_dot() gives the text")
        if file is None:
            file = Path(tempfile.mkdtemp()) / "rustorch.svg"
        subprocess.run([dot, "-Tsvg", "-o", str(file)], input=self.to_dot(), text=True, check=True)
        return Path(file)

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("graph", "native", "views", "not native", "launches", "kernels", "held")]
        for graph in self.graphs:
            kinds = Counter(node.kind for node in graph.nodes)
            launches = sum(program.captured[0] for program in graph.programs)
            kernels = sum(program.instructions for program in graph.programs)
            held = max((program.intermediate_bytes for program in graph.programs), default=0)
            counts = (*(kinds[kind] for kind in ("native", "view", "eager")), launches, kernels)
            rows.append((graph.name, *map(str, counts), _size(held)))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        lines.append(f"{self.coverage:.0%} of the nodes that compute run in Rust")
        lines.append(f"moved: {_size(self.moved_bytes)}; the passes saved {_size(self.saved_bytes)}")
        at_most = f"at most {_size(self.peak_bytes)} of intermediates and results at once"
        lines.append(f"{at_most}; {_size(self.freed_bytes)} of arguments freed on the way")
        lines.append("first call: " + ", ".join(f"{name} {1e3 * spent:.1f} ms" for name, spent in self.seconds.items()))
        lines += [f"{kernel} x{count}" for kernel, count in Counter(self.fused).most_common()]
        eager = Counter((node.target, node.reason, node.place) for node in self.not_native)
        for (target, reason, place), count in eager.items():
            lines.append(f"not native: {target} x{count} ({reason})" + (f"\n  {place}" if place else ""))
        lines += [f"graph break x{count}: {met}" for met, count in self.graph_breaks.items()]
        if not self.graph_breaks:
            lines.append("no graph breaks")
        return "\n".join(lines)


def _size(count: int) -> str:
    """A number of bytes, in the largest unit that it has one of."""
    for unit, bytes_of_one in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(count) >= bytes_of_one:
            return f"{count / bytes_of_one:.2f} {unit}"
    return f"{count} bytes"


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


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
    backend.listeners.append(reports)
    started = time.perf_counter()
    try:
        with _graph_breaks.watching() as breaks:
            results = torch.compile(model, backend="rust_backend")(*example_inputs)
            losses = [leaf.sum() for leaf in _tensors(results) if leaf.requires_grad]
            if losses:
                parameters = list(model.parameters()) if isinstance(model, torch.nn.Module) else []
                inputs = _tensors(example_inputs)
                wanted = [leaf for leaf in parameters + inputs if leaf.requires_grad and leaf.is_leaf]
                if wanted:
                    torch.autograd.grad(sum(losses), wanted, allow_unused=True)  # type: ignore[arg-type]
    finally:
        whole = time.perf_counter() - started
        backend.listeners.remove(reports)
        torch._dynamo.reset()
    ours: Counter[str] = Counter()
    for report in reports:
        ours.update(report.seconds)
    seconds = {"dynamo and autograd": whole - sum(ours.values()), **ours}
    return Explanation(reports, dict(breaks), seconds)
