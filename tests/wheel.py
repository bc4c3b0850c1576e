"""Tries a wheel in a fresh environment that has no Rust and no compiler. Part of `make wheel`.

`python tests/wheel.py dist/*.whl`. The environment borrows torch from the one that runs this, rather than
download it anew; `--download` has pip fetch it, as a user would.
"""

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

TRAINING_STEP = """
import shutil, torch
from torch import nn
assert not any(map(shutil.which, ("cc", "gcc", "g++", "clang", "cargo", "rustc"))), "a compiler is on PATH"
import rustorch_device
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)).to("rustorch")
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
compiled = torch.compile(model, backend="rust_backend")
images, labels = torch.randn(32, 1, 8, 8).to("rustorch"), torch.randint(0, 10, (32,)).to("rustorch")
losses = []
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(compiled(images), labels)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0] / 2, losses
rustorch_device.save("run.safetensors", model=model, optimizer=optimizer)
print(f"a compiled training step, from {rustorch_device.__file__}: loss {losses[0]:.3f} to {losses[-1]:.3f}")
"""


def required(wheel: Path) -> list[str]:
    """What the wheel needs without any extra."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    return [needed for needed in metadata.get_all("Requires-Dist", []) if "extra ==" not in needed]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--download", action="store_true", help="let pip fetch torch")
    options = parser.parse_args()
    wheel = options.wheel.resolve()
    needed = required(wheel)
    assert [name.split("=")[0] for name in needed] == ["torch"], f"the wheel needs {needed}, not torch alone"
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        environment = {"PATH": str(python.parent), "HOME": folder, "LANG": os.environ.get("LANG", "C.UTF-8")}

        def run(*arguments: str | Path) -> None:
            subprocess.run([str(python), *map(str, arguments)], env=environment, cwd=folder, check=True)

        if not options.download:
            query = "import sysconfig; print(sysconfig.get_path('purelib'))"
            site = subprocess.run([str(python), "-c", query], capture_output=True, text=True, check=True).stdout.strip()
            (Path(site) / "borrowed_torch.pth").write_text(sysconfig.get_path("purelib") + "\n")
        run("-m", "pip", "install", "-q", *([] if options.download else ["--no-deps"]), wheel)
        run("-m", "rustorch_device.backend_check")
        run("-c", TRAINING_STEP)
        run("-m", "rustorch_device.checkpoint", "verify", "run.safetensors")
    print(f"{wheel.name} works in a fresh environment")
    return 0


if __name__ == "__main__":
    sys.exit(main())
