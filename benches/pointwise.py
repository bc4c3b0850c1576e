"""Pointwise ops, reductions, what orders, and copies, at four sizes."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from .harness import Case, both

SIZES = {"10": 10, "16 K": 16 << 10, "1 M": 1 << 20, "16 M": 16 << 20}

# Ops of tensors of one length.
UNARY: dict[str, Callable] = {
    # By one, so that repeating it changes nothing.
    "mul_": lambda a: a.mul_(1.0),
    "exp": torch.exp,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
    "f32 to bf16": lambda a: a.bfloat16(),
    "sum": torch.sum,
    "max": torch.max,
    "mean": torch.mean,
    "clone": torch.clone,
}
BINARY: dict[str, Callable] = {
    "add": torch.add,
    "compare": torch.lt,
    "cat": lambda a, b: torch.cat([a, b]),
}

# Ops of a matrix.
MATRIX: dict[str, Callable] = {
    "sum over last": lambda a: a.sum(1),
    "sum over first": lambda a: a.sum(0),
    "max over last": lambda a: a.amax(1),
    "max over first": lambda a: a.amax(0),
    "mean over last": lambda a: a.mean(1),
    "mean over first": lambda a: a.mean(0),
    "cumsum of rows": lambda a: a.cumsum(1),
    # Of equal elements any may be named: the values alone are compared.
    "topk of rows": lambda a: a.topk(5, 1)[0],
    "sort of rows": lambda a: a.sort(1)[0],
    "transpose copy": lambda a: a.t().contiguous(),
}


def rows(size: int) -> int:
    """How many rows a matrix of so many elements has: about as many as columns."""
    return 2 if size == 10 else 1 << (size.bit_length() // 2)


def cases(quick: bool) -> Iterator[Case]:
    for label, size in list(SIZES.items())[: 2 if quick else None]:
        a, b = torch.randn(size), torch.randn(size)
        for ops, inputs in ((UNARY, (a,)), (BINARY, (a, b)), (MATRIX, (a.view(rows(size), -1),))):
            for name, op in ops.items():
                # A sum of millions of random terms is near zero by cancellation.
                yield both("pointwise", f"{name}, {label}", op, *inputs, tolerance=1e-2)
        yield both("pointwise", f"where, {label}", torch.where, a > b, a, b)
        yield both("pointwise", f"bf16 to f32, {label}", lambda half: half.float(), a.bfloat16())
