"""A compiled graph as PyTorch's caches keep it, so that a second process does without autograd's tracing.

What is kept is the graph of aten ops, which is imported into Rust on its first call, in any process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._functorch import config
from torch._functorch.aot_autograd import SerializableAOTDispatchCompiler
from torch._inductor.output_code import RegionalOutputCode
from torch.fx import GraphModule

from rustorch_device import __version__

Run = Callable[[list[Any]], list[Any]]


class Artifact(RegionalOutputCode):
    """A graph that runs in Rust, and can be pickled: PyTorch's own class for graphs that are kept as they are.

    Args:
        module: the graph.
        kind: what reports call it.
        compile_graph: makes the function that runs it.
    """

    def __init__(self, module: GraphModule, kind: str, compile_graph: Callable[[GraphModule, str], Run]) -> None:
        super().__init__(module)
        self._kind = kind
        self._compile_graph = compile_graph
        self._run: Run | None = None

    def __call__(self, arguments: list[Any]) -> list[Any]:  # type: ignore[override]
        """Runs the graph; the list of arguments is emptied."""
        if self._run is None:
            self._run = self._compile_graph(self._unwrap_graph_module()[1], self._kind)
        return self._run(arguments)

    def prepare_for_serialization(self) -> None:
        """Drops what another process cannot use."""
        self._run = None
        super().prepare_for_serialization()


def compiler(compile_graph: Callable[[GraphModule, str], Run], kind: str) -> SerializableAOTDispatchCompiler:
    """What AOTAutograd calls with a graph to compile; it then asks its cache first."""
    return SerializableAOTDispatchCompiler(Artifact, lambda module, _examples: Artifact(module, kind, compile_graph))


@contextmanager
def keeping() -> Iterator[None]:
    """Lets AOTAutograd keep artifacts whole, under keys that no other backend or version shares.

    The backward graph is taken with the forward one (to make an artifact of it costs nothing), as what
    is kept is decided then.
    """
    tag = f"{torch.compiler.config.cache_key_tag}rustorch {__version__}"
    with (
        config.patch(bundled_autograd_cache=True, force_non_lazy_backward_lowering=True),
        torch.compiler.config.patch(cache_key_tag=tag),  # type: ignore[attr-defined]
    ):
        yield
