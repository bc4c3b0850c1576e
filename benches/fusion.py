"""Chains of pointwise ops, and reductions with pointwise ops around them, compiled."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from .harness import Arm, Case

SIZES = {"16 K": 16 << 10, "1 M": 1 << 20, "16 M": 16 << 20}

# Of two matrices of one size, and a row as long as theirs.
CHAINS: dict[str, Callable] = {
    "six simple ops": lambda a, b, row: ((a * b + a).relu() * 0.5 - b).abs(),
    "sigmoid and tanh": lambda a, b, row: torch.sigmoid(a) * torch.tanh(b) + a,
    "bias, gelu, residual": lambda a, b, row: F.gelu(a + row) + b,
    "masks": lambda a, b, row: torch.where((a > 0) & (b < 0.5), a, b * 0.1),
}
REDUCTIONS: dict[str, Callable] = {
    "mean squared error": lambda a, b, row: (a - b).square().mean(),
    "gradient of a bias": lambda a, b, row: (a * (b > 0)).sum(0),
    "sum of products over rows": lambda a, b, row: (a * b).sum(1),
    "largest magnitude": lambda a, b, row: (a + row).abs().amax(),
    "softmax of scaled rows": lambda a, b, row: torch.softmax(a * 0.125 + b, 1),
    "rows over their norms": lambda a, b, row: a / (a * a).sum(1, keepdim=True).sqrt(),
}


def arm(function: Callable, backend: str | None, device: str, inputs: list[torch.Tensor]) -> Arm:
    # Tensors of its own, so that no arm finds in the cache what another has read.
    moved = [tensor.to(device, copy=True) for tensor in inputs]
    run = function if backend is None else torch.compile(function, backend=backend, dynamic=False)
    return lambda: run(*moved)


def cases(quick: bool, inductor: bool = False) -> Iterator[Case]:
    for label, size in list(SIZES.items())[: 1 if quick else None]:
        columns = 1 << (size.bit_length() // 2)
        inputs = [torch.randn(size // columns, columns) for _ in range(2)] + [torch.randn(columns)]
        for name, function in (CHAINS | REDUCTIONS).items():
            # Each size and backend is a compilation of the same code, of which Dynamo keeps a few.
            torch.compiler.reset()
            arms = {
                "cpu": arm(function, None, "cpu", inputs),
                "rust_backend": arm(function, "rust_backend", "rustorch", inputs),
            }
            if inductor:
                arms["inductor"] = arm(function, "inductor", "cpu", inputs)
            yield Case("fusion", f"{name}, {label}", arms)
