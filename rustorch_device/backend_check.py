"""The smoke test: `python -m rustorch_device.backend_check`.

Prints what is installed and whether it works; exits with 0, or says what is wrong and how to mend
it and exits with 1.
"""

import argparse
import os
import platform
import sys
import traceback
from importlib import metadata

import torch
from torch import nn

from rustorch_device import _environment, _load

INSTALL = "`pip install --no-build-isolation .`"
REPORT = "Please report it, with everything printed above."
BACKEND = "rust_backend"
TOLERANCE = 1e-4


class Problem(Exception):
    """What is wrong, and how to mend it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


def line(name: str, value: object) -> None:
    print(f"{name:<28} {value}")


def check_versions() -> None:
    line("torch", torch.__version__)
    line("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    try:
        line("rustorch", metadata.version("rustorch-device"))
    except metadata.PackageNotFoundError:
        raise Problem(
            "the package is not installed, so PyTorch cannot find its entry points.",
            f"In the source tree: {INSTALL}.",
        ) from None


def check_device() -> None:
    try:
        _load.load()
    except Exception as error:
        raise Problem(
            f"the device does not load: {error}", f"To build it anew, in the source tree: {INSTALL}."
        ) from error
    from rustorch_device import _C

    line("SIMD level", _C.simd_level())
    line("threads", torch.get_num_threads())
    x = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], device="rustorch")
    if x.t().sum(1).cpu().tolist() != [3.0, 5.0, 7.0]:
        raise Problem("the device computes nonsense.", REPORT)
    line("device", f"registered as {x.device}")
    line("loads with `import torch`", autoload_state())


def autoload_state() -> str:
    if not metadata.entry_points(group="torch.backends", name="rustorch"):
        raise Problem("the package's entry points are not installed.", f"In the source tree: {INSTALL}.")
    if _environment.read("RUSTORCH_AUTOLOAD") == "0" or os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD") == "0":
        return "no: RUSTORCH_AUTOLOAD=0 or TORCH_DEVICE_BACKEND_AUTOLOAD=0 turns it off"
    return "yes"


def check_backend() -> None:
    if BACKEND not in torch._dynamo.list_backends(exclude_tags=()):
        raise Problem(f'the torch.compile backend "{BACKEND}" is not registered.', f"In the source tree: {INSTALL}.")
    line("torch.compile backend", f"registered as {BACKEND}")


def models() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    mlp = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10))
    cnn = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10))
    return {"MLP": (mlp, torch.randn(8, 16)), "CNN": (cnn, torch.randn(8, 1, 8, 8))}


def loss_and_gradients(model: nn.Module, inputs: torch.Tensor, backend: str | None) -> list[torch.Tensor]:
    model.zero_grad()
    labels = (torch.arange(len(inputs)) % 10).to(inputs.device)
    run = model if backend is None else torch.compile(model, backend=backend)
    loss = nn.functional.cross_entropy(run(inputs), labels)
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    return [value.detach().cpu().clone() for value in [loss, *gradients] if value is not None]


def check_training(backend: str) -> None:
    """Forward and backward, three ways, against eager PyTorch on the CPU."""
    torch.manual_seed(0)
    for name, (model, inputs) in models().items():
        expected = loss_and_gradients(model, inputs, None)
        arms = {
            f"{name} compiled, on the CPU": ("cpu", backend),
            f"{name} eager, on rustorch": ("rustorch", None),
            f"{name} compiled, on rustorch": ("rustorch", backend),
        }
        for arm, (device, arm_backend) in arms.items():
            actual = loss_and_gradients(model.to(device), inputs.to(device), arm_backend)
            difference = max((a - e).abs().max().item() for a, e in zip(actual, expected, strict=True))
            line(arm, f"differs from eager on the CPU by {difference:.1e}")
            if not difference <= TOLERANCE:
                raise Problem(
                    f"{arm}: the difference {difference:.1e} is more than rounding ({TOLERANCE:.0e}).",
                    f"{REPORT} RUSTORCH_ISA=scalar may work around it.",
                )


def print_fallbacks() -> None:
    counts: dict[str, int] = torch.rustorch.fallback_counts()  # type: ignore[attr-defined]
    line("fallbacks to the CPU", ", ".join(f"{op} {count}x" for op, count in sorted(counts.items())) or "none")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rustorch_device.backend_check", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--backend", default=BACKEND, help="the torch.compile backend to run")
    options = parser.parse_args(arguments)
    try:
        check_versions()
        check_device()
        check_backend()
        check_training(options.backend)
        print_fallbacks()
    except Problem as problem:
        print(f"\nrustorch does not work: {problem}\n{problem.remedy}", file=sys.stderr)
        return 1
    except Exception as error:
        traceback.print_exc()
        print(f"\nrustorch does not work: {type(error).__name__}: {error}\n{REPORT}", file=sys.stderr)
        return 1
    print("\nrustorch works")
    return 0


if __name__ == "__main__":
    sys.exit(main())
