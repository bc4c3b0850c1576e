"""Profiles training steps of a small CNN on rustorch: which Rust kernels take the time.

    python examples/profile_training.py             # also --compiled

Prints the table of the kernels against the machine's roofline, and saves a trace of PyTorch's profiler (open
it at https://ui.perfetto.dev) and a bar chart. Exits with 1 if no Rust kernel was seen.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, record_function

SHOWN = 15


def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


def training_step(options: argparse.Namespace) -> Callable[[], None]:
    """One step of training, warmed up."""
    torch.manual_seed(0)
    model = net().to(options.device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    images = torch.randn(options.batch, 3, 32, 32).to(options.device)
    labels = torch.randint(0, 10, (options.batch,)).to(options.device)
    call = torch.compile(model, backend="rust_backend") if options.compiled else model

    def step() -> None:
        optimizer.zero_grad()
        with record_function("forward"):
            loss = nn.functional.cross_entropy(call(images), labels)
        with record_function("backward"):
            loss.backward()
        with record_function("optimizer"):
            optimizer.step()

    for _ in range(3):
        step()
    return step


def save_trace(path: Path, step: Callable[[], None]) -> None:
    """PyTorch's own profiler: every op and every kernel, one by one, with shapes and operations."""
    activities = [ProfilerActivity.CPU, ProfilerActivity.PrivateUse1]
    with torch.profiler.profile(activities=activities, record_shapes=True) as profiler:
        step()
    profiler.export_chrome_trace(str(path))


def save_chart(path: Path, kernels: list[Any], steps: int) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = kernels[:SHOWN][::-1]
    figure, axis = pyplot.subplots(figsize=(7, 1.2 + 0.28 * len(shown)), layout="constrained")
    bars = axis.barh(range(len(shown)), [kernel.seconds / steps * 1e6 for kernel in shown])
    axis.set_yticks(range(len(shown)), [f"{kernel.name[:40]} {kernel.origin[:20]}" for kernel in shown])
    axis.bar_label(bars, fmt="%.0f", padding=2, fontsize=8)
    axis.set(xlabel="µs a training step", title="Rust kernels of a training step")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("rustorch", "cpu"), default="rustorch", help="cpu only with --compiled")
    parser.add_argument("--compiled", action="store_true", help='through torch.compile(backend="rust_backend")')
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output", help="folder for the files")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if not hasattr(torch, "rustorch"):
        print("The rustorch device is not loaded: `python -m rustorch_device.backend_check` says why.", file=sys.stderr)
        return 1
    import rustorch_device

    step = training_step(options)
    with rustorch_device.profile() as taken:
        for _ in range(options.steps):
            step()
    if not taken.kernels:
        print("no Rust kernel was seen", file=sys.stderr)
        return 1
    options.output.mkdir(parents=True, exist_ok=True)
    trace, chart = options.output / "profile_training.json", options.output / "profile_training.png"
    save_trace(trace, step)
    save_chart(chart, taken.kernels, options.steps)
    print(f"trace: {trace}\nchart: {chart}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
