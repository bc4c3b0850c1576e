"""What a report of a fault should say: `python -m rustorch_device.collect_env`.

Prints the versions, the device and its settings, and which libraries are installed and how each is switched to the
device. It changes nothing, and says what is wrong rather than fail.
"""

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata

#: By the name that it is installed by: how a library is switched to the device. docs/libraries.md shows each.
LIBRARIES = {
    "accelerate": "import rustorch_device.integrations.accelerate",
    "transformers": 'device_map="rustorch"; Trainer: import rustorch_device.integrations.accelerate',
    "lightning": "Trainer(**rustorch_device.integrations.lightning.rustorch_trainer())",
    "diffusers": 'pipe.to("rustorch")',
    "peft": "as the model that it adapts",
    "sentence-transformers": 'SentenceTransformer(.., device="rustorch")',
    "timm": 'model.to("rustorch")',
    "torchvision": 'model.to("rustorch")',
    "torchmetrics": 'metric.to("rustorch")',
    "torch-geometric": 'data.to("rustorch")',
    "torchao": "quantize_(model.to('rustorch'), ..)",
    "kornia": 'tensors of device="rustorch"',
    "gpytorch": 'model.to("rustorch")',
    "skorch": 'NeuralNet(.., device="rustorch")',
    "gymnasium": 'the agent\'s model.to("rustorch")',
    "safetensors": 'load_file(path), then .to("rustorch")',
    "numpy": "rustorch_device.alias(tensor).numpy(), or tensor.cpu().numpy()",
}


def version(name: str) -> str | None:
    """The version of an installed package, without importing it."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def environment() -> Iterator[tuple[str, str]]:
    """What is installed, and how the device is set; each as its name and its value."""
    yield "rustorch", version("rustorch-device") or "not installed: PyTorch cannot find its entry points"
    yield "python", f"{platform.python_version()} on {platform.platform()}"
    yield "processor", f"{_processor()}, {os.cpu_count()} cores"
    try:
        import torch

        yield "torch", torch.__version__
        from rustorch_device import _load

        _load.load()
        from rustorch_device import _C, backend_check
    except Exception as error:
        yield "device", f"does not load: {error}"
    else:
        device = torch.rustorch  # type: ignore[attr-defined]
        free, total = device.mem_get_info()
        yield "device", f"rustorch:0, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        yield "SIMD level", _C.simd_level()
        yield "PyTorch's CPU capability", torch.backends.cpu.get_cpu_capability()
        yield "threads", f"{torch.get_num_threads()} ({torch.get_num_interop_threads()} between ops)"
        yield "fallback policy", _C.fallback_policy()
        yield "loads with `import torch`", backend_check.autoload_state()
        yield "current accelerator", str(torch.accelerator.current_accelerator())
    for name in sorted(os.environ):
        if name.startswith(("RUSTORCH_", "ACCELERATE_", "OMP_", "MKL_")) or name == "TORCH_DEVICE_BACKEND_AUTOLOAD":
            yield name, os.environ[name]


def libraries() -> Iterator[tuple[str, str]]:
    """The libraries that are installed, with their version and how each is switched on."""
    for name, switch in LIBRARIES.items():
        if (installed := version(name)) is not None:
            yield f"{name} {installed}", switch


def main(arguments: list[str] | None = None) -> int:
    argparse.ArgumentParser(
        prog="python -m rustorch_device.collect_env", description=(__doc__ or "").splitlines()[0]
    ).parse_args(arguments)
    for name, value in environment():
        print(f"{name:<28} {value}")
    print("\nlibraries, and what switches each to the device")
    for name, value in libraries():
        print(f"{name:<28} {value}")
    missing = [name for name in LIBRARIES if version(name) is None]
    print(f"{'not installed':<28} {', '.join(missing) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
