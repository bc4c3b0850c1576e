"""Profiles training steps of a small CNN on rustorch: which Rust kernels take the time.

    python examples/profile_training.py             # also --compiled

Prints a table of the kernels, and saves a trace (open it at https://ui.perfetto.dev or chrome://tracing) and
a bar chart. Exits with 1 if no Rust kernel was seen.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

#: How the launches of Rust kernels are named in a profile.
PREFIX = "rustorch::"
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


def profiled(options: argparse.Namespace) -> Any:
    """A profile of some steps, after some that are not in it."""
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
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(options.steps):
            step()
    return profiler


def table(kernels: list[Any], steps: int) -> str:
    whole = sum(kernel.self_cpu_time_total for kernel in kernels)
    lines = [f"{'kernel':<34} {'calls a step':>12} {'µs a step':>10} {'share':>7}"]
    lines += [
        f"{kernel.key.removeprefix(PREFIX):<34} {kernel.count / steps:>12.1f} "
        f"{kernel.self_cpu_time_total / steps:>10.1f} {kernel.self_cpu_time_total / whole:>7.1%}"
        for kernel in kernels
    ]
    return "\n".join(lines)


def save_chart(path: Path, kernels: list[Any], steps: int) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = kernels[:SHOWN][::-1]
    figure, axis = pyplot.subplots(figsize=(7, 1.2 + 0.28 * len(shown)), layout="constrained")
    names = [kernel.key.removeprefix(PREFIX) for kernel in shown]
    bars = axis.barh(names, [kernel.self_cpu_time_total / steps for kernel in shown])
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
    profiler = profiled(options)
    kernels = [event for event in profiler.key_averages() if event.key.startswith(PREFIX)]
    if not kernels:
        print("no Rust kernel was seen", file=sys.stderr)
        return 1
    kernels.sort(key=lambda event: event.self_cpu_time_total, reverse=True)
    print(table(kernels, options.steps))
    options.output.mkdir(parents=True, exist_ok=True)
    trace, chart = options.output / "profile_training.json", options.output / "profile_training.png"
    profiler.export_chrome_trace(str(trace))
    save_chart(chart, kernels, options.steps)
    print(f"trace: {trace}\nchart: {chart}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
