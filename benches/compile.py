"""What compiling costs: first calls in fresh processes, and the overhead of later ones.

A first call is measured in a process of its own, with empty caches. What is ours is the first call
less that of `aot_eager`, which traces as we do and compiles nothing.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from .harness import Arm, Case

#: What a fresh process runs: the seconds of its first call (forward, and backward where it trains).
CHILD = """
import json, sys, time
import torch
from benches.compile import MODELS
name, backend, device = sys.argv[1:]
call, inputs = MODELS[name](device)
compiled = torch.compile(call, backend=backend)
started = time.perf_counter()
result = compiled(*inputs)
if result.requires_grad:
    result.sum().backward()
print(json.dumps(time.perf_counter() - started))
"""
REPEATS = 5


def _trained(model: nn.Module, *size: int):
    def make(device: str):
        moved = model.to(device)
        return (lambda x: moved(x).square().mean()), (torch.randn(size).to(device),)

    return make


def _torchvision(name: str, *size: int):
    def make(device: str):
        from torchvision import models

        return _trained(getattr(models, name)(weights=None), *size)(device)

    return make


def _chain(device: str):
    return (lambda x: ((x.sigmoid() * 2 + 1).relu() * x).tanh()), (torch.randn(1 << 16).to(device),)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


MODELS = {
    "pointwise chain": _chain,
    "MLP": lambda device: _trained(mlp(), 64, 784)(device),
    "ResNet-18, training": _torchvision("resnet18", 2, 3, 64, 64),
    "MobileNetV2, training": _torchvision("mobilenet_v2", 2, 3, 64, 64),
}


def first_call(name: str, backend: str, device: str, compiler: bool) -> float:
    """Seconds of the first call in a fresh process, with caches of its own; without a C++ compiler on
    PATH unless it needs one."""
    with tempfile.TemporaryDirectory() as caches:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": caches}
        if not compiler:
            environment["PATH"] = str(Path(sys.executable).parent)
        done = subprocess.run(
            [sys.executable, "-c", CHILD, name, backend, device],
            env=environment,
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])


def first_calls(quick: bool, inductor: bool) -> None:
    """Prints the first calls of every model, a line each."""
    arms = {"aot_eager": ("aot_eager", "cpu", False), "rust_backend": ("rust_backend", "rustorch", False)}
    arms["rust_backend, CPU model"] = ("rust_backend", "cpu", False)
    if inductor:
        arms["inductor"] = ("inductor", "cpu", True)
    repeats = 1 if quick else REPEATS
    names = list(MODELS)[:1] if quick else list(MODELS)
    print(f"first call in a fresh process, seconds, median of {repeats}")
    for name in names:
        taken = {arm: [] for arm in arms}
        for _ in range(repeats):
            for arm, given in arms.items():
                taken[arm].append(first_call(name, *given))
        median = {arm: statistics.median(values) for arm, values in taken.items()}
        base = median["aot_eager"]
        for arm, seconds in median.items():
            own = "" if arm == "aot_eager" else f"  own {1e3 * (seconds - base):8.1f} ms"
            ratio = f"  {median['inductor'] / seconds:6.1f}x as fast as Inductor" if inductor else ""
            print(f"{name:<24} {arm:<26} {seconds:8.3f}{own}{ratio}", flush=True)


def cases(quick: bool, inductor: bool = False) -> Iterator[Case]:
    """Prints the first calls; then the steady call of the MLP at batch 1, as a case of arms."""
    first_calls(quick, inductor)
    torch.manual_seed(0)
    on_cpu = mlp()
    x = torch.randn(1, 784)
    arms: dict[str, Arm] = {}

    def arm(model: nn.Module, x: torch.Tensor, backend: str | None) -> Arm:
        run = model if backend is None else torch.compile(model, backend=backend)

        def call() -> torch.Tensor:
            with torch.no_grad():
                return run(x)

        return call

    arms["cpu"] = arm(on_cpu, x, None)
    if inductor:
        arms["inductor"] = arm(on_cpu, x, "inductor")
    arms["rust_backend, CPU model"] = arm(on_cpu, x, "rust_backend")
    on_device = mlp().to("rustorch")
    on_device.load_state_dict(on_cpu.state_dict())
    arms["rust_backend"] = arm(on_device, x.to("rustorch"), "rust_backend")
    yield Case("compile", "compiled MLP, batch 1", arms)
