"""Compiles matmul and activations with backend="rust_backend" and compares them with eager PyTorch.

    python examples/compile_backend_demo.py          # also --backend

Shows the largest difference and the best time of each; exits with 1 if results differ. The first layer is so small
that a compiled call takes longer than eager: `torch.compile` looks at the arguments before each call, which costs some
tens of microseconds. Where the work is longer than that, compiling pays.
"""

import argparse
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

ROUNDS = 30


def relu_layer(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.relu(x @ w + b)


def gelu_layer(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return F.gelu(torch.addmm(b, x, w))


def gated_layer(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    hidden = x @ w
    return torch.tanh(hidden) * torch.sigmoid(hidden + b)


def best_times(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """The best of many for each, taken in turns, in microseconds."""
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for which, run in enumerate((first, second)):
            started = time.perf_counter()
            run()
            best[which] = min(best[which], time.perf_counter() - started)
    return best[0] * 1e6, best[1] * 1e6


def with_gradients(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> list[torch.Tensor]:
    """The result, and the gradients of its sum."""
    leaves = [value.detach().requires_grad_() for value in inputs]
    result = function(*leaves)
    return [result.detach(), *torch.autograd.grad(result.sum(), leaves)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="rust_backend", help="the backend to compare with eager")
    parser.add_argument(
        "--tolerance", type=float, default=1e-4, help="allowed difference, relative to the largest value"
    )
    options = parser.parse_args()

    torch.manual_seed(0)
    print(f"{'function':<12} {'rows, in, out':<16} {'difference':>10} {'eager µs':>10} {options.backend + ' µs':>16}")
    differing = []
    for function in (relu_layer, gelu_layer, gated_layer):
        compiled = torch.compile(function, backend=options.backend, dynamic=False)
        for rows, width, out in ((8, 16, 4), (64, 784, 512), (256, 256, 256)):
            inputs = (torch.randn(rows, width), torch.randn(width, out) / width**0.5, torch.randn(out))
            expected, actual = with_gradients(function, *inputs), with_gradients(compiled, *inputs)
            difference = max(
                ((a - e).abs().max() / e.abs().max().clamp(min=1)).item() for a, e in zip(actual, expected, strict=True)
            )
            # A NaN differs too.
            if not difference <= options.tolerance:
                differing.append(f"{function.__name__} {rows, width, out}: {difference:.2e}")
            with torch.no_grad():
                eager, ours = best_times(lambda: function(*inputs), lambda: compiled(*inputs))  # noqa: B023
            print(
                f"{function.__name__:<12} {f'{rows}, {width}, {out}':<16} "
                f"{difference:>10.1e} {eager:>10.1f} {ours:>16.1f}"
            )
    if differing:
        print("compiled and eager differ: " + "; ".join(differing), file=sys.stderr)
        return 1
    print("compiled and eager agree, forward and backward")
    print("(8, 16, 4 is less work than what torch.compile does before each call; compiling pays where there is more)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
