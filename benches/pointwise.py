"""Pointwise ops, reductions and copies."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from .harness import Case, both

SIZES = {"10": 10, "16 K": 16 << 10, "1 M": 1 << 20, "16 M": 16 << 20}

# Ops of one length of tensor, with what they take besides `a`: `b`, a mask, nothing.
OPS: dict[str, Callable] = {
    "add": lambda a, b, m: a + b,
    "mul_": lambda a, b, m: a.mul_(1.0),
    "exp": lambda a, b, m: a.exp(),
    "tanh": lambda a, b, m: a.tanh(),
    "gelu": lambda a, b, m: F.gelu(a),
    "sigmoid": lambda a, b, m: a.sigmoid(),
    "where": lambda a, b, m: torch.where(m, a, b),
    "compare": lambda a, b, m: a < b,
    "f32 to bf16": lambda a, b, m: a.bfloat16(),
    "sum": lambda a, b, m: a.sum(),
    "max": lambda a, b, m: a.max(),
    "mean": lambda a, b, m: a.mean(),
    "clone": lambda a, b, m: a.clone(),
    "cat": lambda a, b, m: torch.cat([a, b]),
}

# Ops of a matrix.
MATRIX_OPS: dict[str, Callable] = {
    "sum over last": lambda a: a.sum(1),
    "sum over first": lambda a: a.sum(0),
    "max over last": lambda a: a.amax(1),
    "max over first": lambda a: a.amax(0),
    "mean over last": lambda a: a.mean(1),
    "mean over first": lambda a: a.mean(0),
    "transpose copy": lambda a: a.t().contiguous(),
}


def cases(quick: bool) -> Iterator[Case]:
    for label, size in list(SIZES.items())[: 2 if quick else None]:
        a, b = torch.randn(size), torch.randn(size)
        mask = a > b
        for name, op in OPS.items():
            # A sum of millions of random terms is near zero by cancellation.
            yield both("pointwise", f"{name}, {label}", op, a, b, mask, tolerance=1e-2)
        half = a.bfloat16()
        yield both("pointwise", f"bf16 to f32, {label}", lambda h: h.float(), half)
        if size > 10:
            rows = 1 << (size.bit_length() // 2)
            matrix = a.view(rows, -1)
            for name, op in MATRIX_OPS.items():
                yield both("pointwise", f"{name}, {label}", op, matrix)
