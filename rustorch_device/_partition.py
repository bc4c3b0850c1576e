"""Where a joint graph of AOTAutograd is cut into a forward and a backward graph."""

from __future__ import annotations

from typing import Any

import torch
from torch._functorch import config
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch.fx import GraphModule, Node
from torch.utils.checkpoint import CheckpointPolicy

aten = torch.ops.aten

#: Pointwise ops without machine code of their own that take more than half a nanosecond an element: longer
#: than it takes to write and read one.
# fmt: off
SLOW = {
    aten.acos, aten.acosh, aten.asin, aten.asinh, aten.atan, aten.atan2, aten.atanh, aten.copysign, aten.cosh,
    aten.digamma, aten.erfc, aten.erfinv, aten.fmod, aten.hypot, aten.i0, aten.igamma, aten.igammac, aten.lgamma,
    aten.log10, aten.log1p, aten.log2, aten.log_sigmoid_forward, aten.logaddexp, aten.logaddexp2, aten.logit,
    aten.nextafter, aten.polygamma, aten.pow, aten.remainder, aten.sinc, aten.sinh, aten.softplus,
    aten.special_entr, aten.special_erfcx, aten.special_i0e, aten.special_i1, aten.special_i1e,
    aten.special_log_ndtr, aten.special_ndtri, aten.special_xlog1py, aten.special_zeta, aten.tan, aten.xlogy,
}
# fmt: on


def _is_slow(node: Node) -> bool:
    is_square = node.target is aten.pow.Tensor_Scalar and node.args[1] == 2
    return getattr(node.target, "overloadpacket", None) in SLOW and not is_square


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
        if _is_slow(node):
            # Where `torch.utils.checkpoint` has not said otherwise.
            node.meta.setdefault("recompute", CheckpointPolicy.MUST_SAVE)
    # Programs drop what they compute twice. PyTorch's pass for it would load much of Inductor.
    with config.patch(cse=False):
        return min_cut_rematerialization_partition(joint, inputs, **given)
