"""Where a joint graph of AOTAutograd is cut into a forward and a backward graph."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch._functorch import config
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch.fx import GraphModule, Node
from torch.utils.checkpoint import CheckpointPolicy

from rustorch_device import _C

aten = torch.ops.aten


@functools.cache
def _dear_ops() -> frozenset[str]:
    """The rows of the op table that are not computed twice: the table says what an element costs."""
    return frozenset(_C.dear_ops())


def _is_dear(node: Node) -> bool:
    packet = getattr(node.target, "overloadpacket", None)
    if packet is None or (node.target is aten.pow.Tensor_Scalar and node.args[1] == 2):
        return False
    return packet.__name__.removeprefix("special_").removesuffix("_forward") in _dear_ops()


def partition(joint: GraphModule, inputs: Any, **given: Any) -> tuple[GraphModule, GraphModule]:
    """The forward and the backward graph, cut where the fewest bytes pass between them: what is cheap in the
    backward pass's kernels is computed again there."""
    graph = joint.graph
    # A gradient's formula reads what is detached, which the partitioner takes for work.
    for node in graph.find_nodes(op="call_function", target=aten.detach.default):
        node.replace_all_uses_with(node.args[0], delete_user_cb=lambda user: user.op != "output")
        if not node.users:
            graph.erase_node(node)
    for node in graph.nodes:
        if _is_dear(node):
            # Where `torch.utils.checkpoint` has not said otherwise.
            node.meta.setdefault("recompute", CheckpointPolicy.MUST_SAVE)
    # Programs drop what they compute twice. PyTorch's pass for it would load much of Inductor.
    with config.patch(cse=False):
        return min_cut_rematerialization_partition(joint, inputs, **given)
