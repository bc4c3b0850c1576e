"""Attention where PyTorch's Python code chooses by device: the counting of FLOPs, jagged nested tensors, and
FlexAttention."""

from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F

from rustorch_device._after_import import after_import


def _count_flops(counter: ModuleType) -> None:
    """Our attention counts as every other: `torch.utils.flop_counter` lists the ops by name."""
    aten = torch.ops.aten
    formulas = {
        aten._scaled_dot_product_fused_attention_overrideable: counter.sdpa_flop,
        aten._scaled_dot_product_fused_attention_overrideable_backward: counter.sdpa_backward_flop,
    }
    for op, formula in formulas.items():
        counter.flop_registry.setdefault(op, formula)


def _sequences(nested: torch.Tensor) -> list[torch.Tensor]:
    """The (heads, length, width) of each sequence of a (batch, heads, length, width) that is ragged in length."""
    return [sequence.transpose(0, 1) for sequence in nested.transpose(1, 2).unbind()]


def _attend_to_jagged(ops: ModuleType) -> None:
    """`scaled_dot_product_attention` of jagged tensors, sequence by sequence: the other devices' ways are a kernel of
    CUDA's, and strided nested tensors, which rustorch has not."""
    of_torch = ops.jagged_scaled_dot_product_attention

    def attention(
        query: Any,
        key: Any,
        value: Any,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        from torch.nested._internal import nested_tensor, sdpa

        of_sequences = all(
            isinstance(tensor, nested_tensor.NestedTensor) and tensor.dim() == 4 and tensor._ragged_idx == 2
            for tensor in (query, key, value)
        )
        if query.device.type != "rustorch" or not of_sequences:
            return of_torch(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)  # type: ignore[no-any-return]
        query, key, value, attn_mask = sdpa._autocast(query, key, value, attn_mask)
        sdpa._validate_sdpa_input(query, key, value, attn_mask, dropout_p, is_causal, scale)
        results = []
        for each in zip(_sequences(query), _sequences(key), _sequences(value), strict=True):
            result = F.scaled_dot_product_attention(
                *each, dropout_p=dropout_p, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa
            )
            results.append(result.transpose(0, 1))
        if query.lengths() is not None:
            # Each sequence has a place of its own, which it need not fill.
            places = query.offsets().diff().tolist()
            results = [
                F.pad(result, (0, 0, 0, 0, 0, place - len(result)))
                for result, place in zip(results, places, strict=True)
            ]
        attended = nested_tensor.nested_view_from_values_offsets_lengths(
            torch.cat(results),
            query.offsets(),
            query.lengths(),
            min_seqlen=query._maybe_min_seqlen,
            max_seqlen=query._maybe_max_seqlen,
        )
        return attended.transpose(1, 2)

    ops.jagged_scaled_dot_product_attention = attention  # type: ignore[attr-defined]


def _let_flex_attention_in(flex: ModuleType) -> None:
    """FlexAttention's own list of devices leaves ours out. Its operator over functions is PyTorch's arithmetic on dense
    scores, which runs on any device, backward too."""
    of_torch = flex._validate_device

    def validate(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        if query.device.type != "rustorch":
            of_torch(query, key, value)

    flex._validate_device = validate  # type: ignore[attr-defined]


def install() -> None:
    after_import("torch.utils.flop_counter", _count_flops)
    after_import("torch.nn.attention.flex_attention", _let_flex_attention_in)
    after_import("torch.nested._internal.ops", _attend_to_jagged)
