"""What a graph makes of weights alone (casts, transposed copies) is kept from one inference to the next.

`torch.compile(model, backend="rust_backend", options={"keep_weights": True})`. The nodes of an inference graph that
depend on nothing but parameters, buffers and constants run once, and again when a weight is another tensor, has other
memory, or its version counter has moved. Weights of small products are laid out for them on the way (`pack`).

A write that PyTorch does not count, such as `weight.data.copy_(...)` or one through NumPy, is not seen: that is
why it is an option. `weight.copy_(...)` under `torch.no_grad()`, an optimizer's step and `load_state_dict` are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch._functorch.partitioners import is_rng_op
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten

#: Rows of a product from which the copy that it makes of a transposed weight costs next to nothing. With one row, a
#: transposed weight is read as well as any.
MOST_ROWS = 64
#: Where the matrix of a product lies among its arguments.
PRODUCTS = {aten.mm.default: 1, aten.addmm.default: 2}


def _is_view(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(result.alias_info is not None for result in schema.returns)


def _written(node: Node) -> list[Node]:
    """The arguments that a node writes."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return []
    written = []
    for index, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = node.args[index] if index < len(node.args) else node.kwargs.get(argument.name)
            written += [leaf for leaf in tree_leaves(value) if isinstance(leaf, Node)]
    return written


def _constant(module: GraphModule, static: Sequence[int]) -> set[Node]:
    """The nodes that depend on weights and constants alone, views of them included."""
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    written = {argument for node in module.graph.nodes for argument in _written(node)}
    if any(node.op != "placeholder" for node in written):
        # AOTAutograd writes to arguments alone; a view of one may be anything.
        return set()
    constant = {placeholders[index] for index in static if index < len(placeholders)} - written
    for node in module.graph.nodes:
        if node.op == "get_attr":
            constant.add(node)
        elif node.op == "call_function" and node.all_input_nodes:
            is_pure = not (_written(node) or node.is_impure() or is_rng_op(node))
            if is_pure and constant.issuperset(node.all_input_nodes):
                constant.add(node)
    # The caller may write to what it is given: that is made anew for each call.
    given = set(module.graph.output_node().all_input_nodes)
    for node in reversed(module.graph.nodes):
        if node in given and _is_view(node):
            given.update(node.all_input_nodes)
    return {node for node in constant if node.op != "call_function" or node not in given}


def pack(module: GraphModule, constant: set[Node]) -> None:
    """Lets products of few rows read a dense copy of a transposed weight (`x @ w.t()`); the copies are added to
    `constant`, each once."""
    copies: dict[Node, Node] = {}
    for node in list(module.graph.nodes):
        at = PRODUCTS.get(node.target)
        if at is None or not isinstance(weight := node.args[at], Node) or weight not in constant:
            continue
        rows, matrix = node.args[at - 1].meta["val"].shape[0], weight.meta["val"]
        is_transposed = matrix.stride(0) == 1 and matrix.stride(1) > 1
        if not is_transposed or not isinstance(rows, int) or not 1 < rows < MOST_ROWS:
            continue
        if weight not in copies:
            with module.graph.inserting_after(weight):
                copy = module.graph.call_function(
                    aten.clone.default, (weight,), {"memory_format": torch.contiguous_format}
                )
            copy.meta = {**weight.meta, "val": matrix.new_empty(matrix.shape)}
            copies[weight] = copy
        node.replace_input_with(weight, copies[weight])
    constant.update(copies.values())
    module.recompile()


class Kept:
    """The values that depend on weights alone, of one graph; all of its plans share them.

    Args:
        module: an inference graph, which `pack` may change.
        static: the positions of arguments that are weights.
    """

    def __init__(self, module: GraphModule, static: Sequence[int]) -> None:
        constant = _constant(module, static)
        pack(module, constant)
        calls = [node for node in module.graph.nodes if node in constant and node.op == "call_function"]
        results = [node for node in calls if not _is_view(node) and not constant.issuperset(node.users)]
        wanted = set(results)
        for node in reversed(module.graph.nodes):
            if node in wanted:
                wanted.update(node.all_input_nodes)
        #: The nodes to run ahead, in order.
        self.nodes = [node for node in module.graph.nodes if node in wanted and node.op == "call_function"]
        order = {node: index for index, node in enumerate(module.graph.nodes)}
        self.weights = [order[node] for node in wanted if node.op == "placeholder"]
        self.results = [order[node] for node in results]
        #: What computes them; absent until the graph is imported.
        self.steps: list[Any] = []
        self._state: list[tuple[int, int]] | None = None
        # So that no other tensor comes to lie where a weight lay.
        self._held: list[torch.Tensor] = []
        self._values: list[Any] = []

    def _state_of(self, slots: list[Any]) -> list[tuple[int, int]] | None:
        """What tells whether weights are what they were; None where nothing does (tensors of `inference_mode`)."""
        try:
            return [(slots[position].data_ptr(), slots[position]._version) for position in self.weights]
        except RuntimeError:
            return None

    def save(self, slots: list[Any]) -> None:
        """Keeps the results that the steps have left in the slots."""
        self._values = [slots[position] for position in self.results]
        self._state = self._state_of(slots)
        self._held = [slots[position].detach() for position in self.weights]

    def run(self, slots: list[Any]) -> bool:
        """Puts the results into the slots; computes them where a weight has changed."""
        state = self._state_of(slots)
        if state is None or state != self._state:
            if not all(step.run(slots) for step in self.steps):
                return False
            self.save(slots)
        for position, value in zip(self.results, self._values, strict=True):
            slots[position] = value
        return True
