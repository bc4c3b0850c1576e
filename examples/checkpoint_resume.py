"""Trains, stops, resumes in a new process, and shows that the numbers are the same to the last bit.

    python examples/checkpoint_resume.py             # on rustorch; also --device cpu, --compiled

A network learns a two-armed spiral, once without a stop, and once with one in the middle: there a
checkpoint keeps the model, the optimizer, the scheduler and the generators, and a new process goes on
from it. Exits with 1 if any loss differs.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

import rustorch_device

BATCH = 64


class Spiral(nn.Module):
    """Which arm a point is on; dropout makes every step depend on the generators."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, 64), nn.Tanh(), nn.Dropout(0.1), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2)
        )

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return self.layers(points)


def batch(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Points from the CPU's generator."""
    labels = torch.randint(0, 2, (BATCH,))
    radius = torch.rand(BATCH)
    angle = 9.0 * radius + torch.pi * labels + 0.1 * torch.randn(BATCH)
    points = torch.stack((radius * angle.cos(), radius * angle.sin()), 1)
    return points.to(device), labels.to(device)


class Run:
    """A training run that can be saved after any step."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.manual_seed(options.seed)
        self.device = options.device
        self.model = Spiral().to(options.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2, fused=True)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, options.steps)
        self.call = torch.compile(self.model, backend="rust_backend") if options.compiled else self.model
        self.done = 0

    def train(self, until: int) -> list[float]:
        losses = []
        while self.done < until:
            points, labels = batch(self.device)
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.call(points), labels)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            losses.append(loss.item())
            self.done += 1
        return losses

    def save(self, path: Path) -> None:
        rustorch_device.save(path, model=self.model, optimizer=self.optimizer, scheduler=self.scheduler, step=self.done)

    def load(self, path: Path) -> None:
        loaded = rustorch_device.load(path, model=self.model, optimizer=self.optimizer, scheduler=self.scheduler)
        self.done = loaded.step or 0


def resumed_elsewhere(path: Path, options: argparse.Namespace) -> list[float]:
    """The losses of a new process that goes on from the checkpoint."""
    command = [sys.executable, __file__, f"--resume={path}", f"--device={options.device}", f"--steps={options.steps}"]
    if options.compiled:
        command.append("--compiled")
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise RuntimeError(f"the resumed run failed:\n{finished.stderr}")
    return [float.fromhex(loss) for loss in json.loads(finished.stdout)]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("rustorch", "cpu"), default="rustorch")
    parser.add_argument("--compiled", action="store_true", help='through torch.compile(backend="rust_backend")')
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "output", help="folder of the checkpoint"
    )
    parser.add_argument("--resume", type=Path, help="go on from this checkpoint and print the losses as JSON")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if options.resume:
        # Other weights than the saved ones, so that these must come from the file.
        options.seed = 12345
        run = Run(options)
        run.load(options.resume)
        print(json.dumps([loss.hex() for loss in run.train(options.steps)]))
        return 0

    whole = Run(options).train(options.steps)
    stop = options.steps // 2
    path = options.output / "checkpoint_resume.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    stopped = Run(options)
    first_half = stopped.train(stop)
    stopped.save(path)
    print(f"stopped after {stop} steps; {path} has {path.stat().st_size:,} bytes")
    pieces = first_half + resumed_elsewhere(path, options)

    print(f"{'step':>6} {'without a stop':>22} {'stopped and resumed':>22}")
    shown = sorted({0, stop - 1, stop, stop + 1, (stop + options.steps) // 2, options.steps - 1})
    for step in shown:
        print(f"{step:>6} {whole[step]:>22.17g} {pieces[step]:>22.17g}")
    different = [step for step, (one, other) in enumerate(zip(whole, pieces, strict=True)) if one != other]
    if different:
        print(f"{len(different)} losses differ, the first at step {different[0]}", file=sys.stderr)
        return 1
    print(f"all {len(whole)} losses are the same to the last bit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
