"""Matrix products in f32."""

from collections.abc import Callable, Iterator

import torch

from .harness import Case, both

CUBES = (16, 64, 128, 256, 512, 1024, 2048)
SHAPES = (
    (64, 10, 128),
    (64, 512, 784),
    (6, 1024, 25),
    (32, 4096, 288),
    (4096, 64, 64),
    (1, 1024, 1024),
    (1024, 1, 1024),
    (197, 768, 192),
    (1024, 1024, 64),
    (128, 9216, 64),
    (9216, 64, 128),
)
TRANSPOSED = ((256, 256, 256), (64, 512, 784))
BATCHED = ((32, 64, 48, 64), (64, 128, 32, 128))


def matrix(rows: int, columns: int, transposed: bool) -> torch.Tensor:
    return torch.randn(columns, rows).t() if transposed else torch.randn(rows, columns)


def product(name: str, function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Case:
    """A case of the product of the last two inputs."""
    flops = 2 * inputs[-2].numel() * inputs[-1].shape[-1]
    return both("gemm", name, function, *inputs, flops=flops)


def cases(quick: bool) -> Iterator[Case]:
    """Shapes are m, n, k."""
    for n in CUBES[:3] if quick else CUBES:
        yield product(f"mm {n}³", torch.mm, torch.randn(n, n), torch.randn(n, n))
    if quick:
        return
    for m, n, k in SHAPES:
        yield product(f"mm {m}, {n}, {k}", torch.mm, torch.randn(m, k), torch.randn(k, n))
    for m, n, k in TRANSPOSED:
        for left, right in ((False, True), (True, False), (True, True)):
            name = f"mm {m}, {n}, {k} {'T' if left else 'N'}{'T' if right else 'N'}"
            yield product(name, torch.mm, matrix(m, k, left), matrix(k, n, right))
    for batch, m, n, k in BATCHED:
        yield product(f"bmm {batch} x {m}, {n}, {k}", torch.bmm, torch.randn(batch, m, k), torch.randn(batch, k, n))
    for m, n, k in ((64, 512, 784), (256, 256, 256)):
        yield product(f"addmm {m}, {n}, {k}", torch.addmm, torch.randn(n), torch.randn(m, k), torch.randn(k, n))
