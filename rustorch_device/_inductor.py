"""Inductor on the device: it has no code for it, which is said before it compiles anything."""

from collections.abc import Iterable, Iterator
from functools import wraps
from types import ModuleType
from typing import Any

import torch

from rustorch_device._after_import import after_import

REFUSAL = (
    "Inductor generates no code for rustorch: say torch.compile(model, backend='rust_backend'), "
    "which needs no C++ compiler."
)


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    """The tensors in a value that a graph knows of a node: one, or several in tuples and lists."""
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _tensors(value)


def _of_graph(module: Any) -> Iterator[torch.Tensor]:
    """What is known of a graph's tensors: what it holds, and what each of its nodes gives."""
    if not isinstance(module, torch.nn.Module):
        return
    yield from module.parameters()
    yield from module.buffers()
    if isinstance(module, torch.fx.GraphModule):
        for node in module.graph.nodes:
            yield from _tensors(node.meta.get("example_value", node.meta.get("val")))


def refuse(module: Any, examples: Iterable[Any]) -> None:
    """Raises where a graph has to do with the device.

    Raises:
        RuntimeError: it has. Dynamo makes a `BackendCompilerFailed` of it.
    """
    for tensors in (_tensors(list(examples)), _of_graph(module)):
        if any(tensor.device.type == "rustorch" for tensor in tensors):
            raise RuntimeError(REFUSAL)


def _guard_entry(compile_fx: ModuleType) -> None:
    """Whoever asks Inductor for code comes by here: `torch.compile` and its modes, AOTInductor, libraries."""
    of_torch = compile_fx.compile_fx

    @wraps(of_torch)
    def compile_unless_ours(model_: Any, example_inputs_: Any, *args: Any, **kwargs: Any) -> Any:
        refuse(model_, example_inputs_)
        return of_torch(model_, example_inputs_, *args, **kwargs)

    compile_fx.compile_fx = compile_unless_ours  # type: ignore[attr-defined]


def install() -> None:
    after_import("torch._inductor.compile_fx", _guard_entry)


class NoCodegen:
    """Stands where Inductor looks for a device's code generators, for what comes to it another way."""

    supports_caching = False

    def __init__(self, *_: Any) -> None:
        raise RuntimeError(REFUSAL)

    @classmethod
    def create(cls, *_: Any) -> Any:
        """What Inductor calls for a wrapper."""
        return cls()


def register() -> None:
    """What Inductor calls before it generates code, for whatever device."""
    from torch._inductor.codegen import common

    refusal: Any = NoCodegen
    common.register_backend_for_device("rustorch", refusal, refusal)
    common.register_device_op_overrides("rustorch", common.NoOpDeviceOpOverrides())
