"""The checks of PyTorch's databases tell deliberate faults: each is put into the results of an op on the device."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conformance import cases
from conformance.checks import CHECKS
from torch.utils._pytree import tree_map_only


class Faulty:
    """An op of the database that does something else on the device."""

    def __init__(self, op: Any, fault: Callable[..., Any]) -> None:
        self.op = op
        self.fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self.op, name)

    def __call__(self, first: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if first.device.type == "cpu":
            return self.op(first, *args, **kwargs)
        return self.fault(self.op, first, *args, **kwargs)


def of_result(change: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    """A fault of each result, which `change` gets with the op's arguments."""

    def fault(op: Any, *args: Any, **kwargs: Any) -> Any:
        return tree_map_only(torch.Tensor, lambda result: change(result, *args), op(*args, **kwargs))

    return fault


def without_tail(result: torch.Tensor, *_: Any) -> torch.Tensor:
    """What lies past the last whole vector is not written."""
    flat = result.reshape(-1).clone()
    whole = flat.numel() - flat.numel() % 8
    if whole:
        flat[whole:] = 0
    return flat.view(result.shape)


def without_part(result: torch.Tensor, first: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    """The last of many terms are lost."""
    return result - first.reshape(-1)[1 << 16 :].to(result.dtype).sum()


def without_nan(result: torch.Tensor, first: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.where(result.isnan(), first.nan_to_num(0.0), result)


def without_sign(result: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.where(result == 0, 0.0, result)


def with_small_ones_off(result: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.where(result.abs() < 1e-3 * result.abs().max(), result * 1.05, result) if result.numel() else result


def cut(result: torch.Tensor, *_: Any) -> torch.Tensor:
    """The digits that bf16 has no room for are dropped: half of all numbers are one unit nearer to zero."""
    if result.requires_grad:
        return result
    bits = result.view(torch.int16)
    return torch.where(torch.arange(bits.numel(), device=bits.device).view(bits.shape) % 2 == 0, bits - 1, bits).view(
        result.dtype
    )


def with_legal_indices(op: Any, first: torch.Tensor, dim: int, index: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    return op(first, dim, index.clamp(max=first.size(dim) - 1) if first.dim() else index, *args, **kwargs)


def of_fewer_channels(op: Any, first: torch.Tensor, factor: int) -> torch.Tensor:
    channels = first.size(-3) - first.size(-3) % factor**2
    return op(first.narrow(-3, 0, channels), factor)


FAULTS: dict[str, tuple[str, str, torch.dtype, Callable[..., Any]]] = {
    "a tail": ("mul", "sizes", torch.float32, of_result(without_tail)),
    "a part of a sum": ("sum", "sizes", torch.float32, of_result(without_part)),
    "NaN": ("maximum", "special", torch.float32, of_result(without_nan)),
    "the sign of zero": ("round", "special", torch.float64, of_result(without_sign)),
    "small elements of a product": ("matmul", "scaled", torch.float32, of_result(with_small_ones_off)),
    "small elements of a product of halves": ("mm", "scaled", torch.bfloat16, of_result(with_small_ones_off)),
    "small elements of a softmax": ("softmax", "scaled", torch.float32, of_result(with_small_ones_off)),
    "rounding": ("exp", "sizes", torch.bfloat16, of_result(cut)),
    "an index check": ("gather", "indices", torch.float32, with_legal_indices),
    "a shape check": ("nn.functional.pixel_shuffle", "shapes", torch.float32, of_fewer_channels),
}


@pytest.mark.parametrize(("name", "check", "dtype", "fault"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_told(name: str, check: str, dtype: torch.dtype, fault: Callable[..., Any]) -> None:
    op = cases.ops()[name]
    CHECKS[check](op, dtype, cases.SAMPLES)
    with pytest.raises(AssertionError):
        CHECKS[check](Faulty(op, fault), dtype, cases.SAMPLES)
