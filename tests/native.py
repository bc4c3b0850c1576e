"""Proof, from the profiler's record, that no CPU kernel computed."""

from collections.abc import Callable
from typing import Any

import torch

#: Ops that make views, metadata or memory, and compute nothing.
METADATA = {
    "aten::" + name
    for name in [
        "_has_compatible_shallow_copy_type",
        "_reshape_alias",
        "_to_copy",
        "_unsafe_view",
        "alias",
        "as_strided",
        "as_strided_",
        "chunk",
        "contiguous",
        "detach",
        "detach_",
        "empty",
        "empty_like",
        "empty_strided",
        "expand",
        "expand_as",
        "flatten",
        "is_nonzero",
        "item",
        "lift_fresh",
        "narrow",
        "new_empty",
        "new_empty_strided",
        "permute",
        "requires_grad_",
        "reshape",
        "resize_",
        "resolve_conj",
        "resolve_neg",
        "result_type",
        "select",
        "set_",
        "size",
        "slice",
        "split",
        "squeeze",
        "squeeze_",
        "stride",
        "t",
        "t_",
        "to",
        "transpose",
        "transpose_",
        "unbind",
        "unflatten",
        "unfold",
        "unsafe_split",
        "unsqueeze",
        "unsqueeze_",
        "view",
        "view_as",
    ]
}


def compute_outside_rust(work: Callable[[], Any]) -> list[str]:
    """Runs `work` under the profiler; gives the ATen ops that computed and launched no Rust kernel.

    An op counts where it is a leaf of the record (nothing ran inside it), is not metadata, and no
    kernel of ours ran under it.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work()
    events = profile.events()
    assert any(event.name.startswith("rustorch::") for event in events), "no Rust kernel ran at all"
    return sorted(
        event.name
        for event in events
        if event.name.startswith("aten::") and not event.cpu_children and event.name not in METADATA
    )
