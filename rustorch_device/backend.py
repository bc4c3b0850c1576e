"""The `torch.compile` backend `rust_backend`.

AOTAutograd gives the forward and the backward graph of a model, on the CPU or on rustorch; each
becomes Rust programs (`rustorch_device.graph`) on its first call, and one call into Rust after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch._dynamo.backends.common import aot_autograd
from torch.fx import GraphModule

from rustorch_device import _C, _fake, _replay
from rustorch_device._options import Options
from rustorch_device._partition import partition
from rustorch_device.graph import GraphReport, Importer, Plan
from rustorch_device.weights import Kept

_fake.register()
_replay.register()

#: Plans of one graph, one for each set of argument shapes: the oldest makes room for a new one.
MAX_PLANS = 32

#: Where reports of imported graphs go while `explain` listens.
listeners: list[list[GraphReport]] = []


def compile_graph(module: GraphModule, kind: str, kept: Kept | None = None) -> Callable[[list[Any]], list[Any]]:
    """A function that runs the graph: it takes the arguments as a list, which it empties, and gives
    the results as a list. A new set of argument shapes imports the graph anew.

    Args:
        module: a graph of aten ops, whose output is a list or tuple.
        kind: what reports call it: "forward", "backward" or "inference".
        kept: what is kept of its weights from call to call.
    """
    plans: list[Plan] = []
    default_dtype = torch.get_default_dtype()

    def run(arguments: list[Any]) -> list[Any]:
        state = _C.ambient()
        for plan in plans:
            if plan.ambient != state:
                continue
            results = plan.run(arguments)
            if results is not None:
                arguments.clear()
                return results
        report = GraphReport(kind)
        plan, results = Importer(module, arguments, report, default_dtype, kept).run()
        plans.insert(0, plan)
        del plans[MAX_PLANS:]
        for listener in listeners:
            listener.append(report)
        arguments.clear()
        return results

    # AOTAutograd then hands its arguments over in a list that is emptied, which frees them early.
    run._boxed_call = True  # type: ignore[attr-defined]
    return run


def _compiler(kind: str) -> Callable[[GraphModule, Sequence[Any]], Callable[[list[Any]], list[Any]]]:
    return lambda module, _examples: compile_graph(module, kind)


def _compile_with_weights(module: GraphModule, _examples: Sequence[Any]) -> Callable[[list[Any]], list[Any]]:
    """Compiles an inference graph, some of whose arguments are known to be parameters or buffers."""
    context = torch._guards.TracingContext.try_get()
    metadata = None if context is None else context.fw_metadata
    static = [] if metadata is None else metadata.static_input_indices
    return compile_graph(module, "inference", Kept(module, static))


def rust_backend(
    module: GraphModule,
    examples: list[torch.Tensor],
    options: dict[str, Any] | None = None,
    mode: str | None = None,
    **_hints: Any,
) -> Callable[..., Any]:
    """Compiles a graph of Dynamo's: `torch.compile(model, backend="rust_backend")`.

    Args:
        module: the graph.
        examples: its arguments.
        options: `{"cache": True}` keeps graphs in PyTorch's cache of compiled graphs (`_artifact.py`);
            `{"keep_weights": True}` keeps, in inference, what is made of weights alone (`weights.py`).
        mode: one of `torch.compile`'s, which changes nothing here.

    Raises:
        ValueError: an option or a mode that is not known, a value that is neither True nor False, or both options.
    """
    chosen = Options.read(options, mode)
    compiler: Callable[[str], Any] = _compiler
    keeping: AbstractContextManager[None] = nullcontext()
    if chosen.cache:
        # Imported here, as it loads much of Inductor.
        from rustorch_device import _artifact

        compiler, keeping = partial(_artifact.compiler, compile_graph), _artifact.keeping()
    compiled = aot_autograd(
        fw_compiler=compiler("forward"),
        bw_compiler=compiler("backward"),
        inference_compiler=_compile_with_weights if chosen.keep_weights else compiler("inference"),
        partition_fn=partition,
        # Writes to arguments (an optimizer's step) belong to the program.
        keep_inference_input_mutations=True,
    )
    with keeping:
        return compiled(module, examples)
