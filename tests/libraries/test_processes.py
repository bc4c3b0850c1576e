"""The integrations in several processes: torchrun with accelerate, and Lightning's own launcher."""

import os
import re
import subprocess
import sys

import pytest

LAUNCHED = """
import socket, sys, torch, accelerate, rustorch_device.integrations.accelerate

def train(folder):
    accelerator = accelerate.Accelerator()
    assert accelerator.device.type == "rustorch", accelerator.device
    index = accelerator.process_index
    ranks = accelerator.gather(torch.tensor([index], device=accelerator.device))
    model = accelerator.prepare(torch.nn.Linear(64, 8))
    torch.manual_seed(index)
    model(torch.randn(32, 64, device=accelerator.device)).square().sum().backward()
    gradients = sum(parameter.grad.sum().item() for parameter in model.parameters())
    open(f"{folder}/rank{index}", "w").write(f"{ranks.tolist()} {type(model).__name__} {gradients:.4f}")

if __name__ == "__main__":
    if len(sys.argv) > 2:
        # A notebook has used the device before it launches, by fork.
        x = torch.randn(512, 512)
        assert (x @ x).isfinite().all() and (x.to("rustorch") @ x.to("rustorch")).isfinite().all()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        accelerate.notebook_launcher(train, (sys.argv[1],), num_processes=int(sys.argv[2]), use_port=port)
    else:
        train(sys.argv[1])
"""

ONE = "--num_machines 1 --mixed_precision no --dynamo_backend no --num_processes"
LAUNCHERS = {
    "torchrun": (2, ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"], []),
    "accelerate launch": (1, ["-m", "accelerate.commands.launch", *ONE.split(), "1"], []),
    "accelerate launch of two": (2, ["-m", "accelerate.commands.launch", *ONE.split(), "2", "--multi_gpu"], []),
    "notebook_launcher": (1, [], ["1"]),
    "notebook_launcher of two": (2, [], ["2"]),
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_accelerate(launcher, tmp_path):
    pytest.importorskip("accelerate", reason="accelerate is not installed: `make libraries` installs it")
    ranks, before, after = LAUNCHERS[launcher]
    script = tmp_path / "script.py"
    script.write_text(LAUNCHED)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *before, str(script), str(tmp_path), *after],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    said = [(tmp_path / f"rank{rank}").read_text() for rank in range(ranks)]
    assert len(set(said)) == 1
    assert said[0].startswith("[0, 1] DistributedDataParallel" if ranks == 2 else "[0] Linear")


TRAINED = """
import torch
import test_integration_lightning as tests
from rustorch_device.integrations.lightning import rustorch_trainer

class Ranked(tests.Model):
    def on_train_end(self):
        assert {device for device, _ in self.seen} == {"rustorch"} and len(self.seen) == 4
        assert self.trainer.world_size == 2
        print(f"rank {self.trainer.global_rank} sums {sum(p.sum().item() for p in self.parameters()):.6f}")

if __name__ == "__main__":
    tests.fit(Ranked(), **rustorch_trainer(devices=2))
"""


FABRIC = """
import torch, lightning
import test_integration_lightning as tests
from rustorch_device.integrations.lightning import rustorch_fabric

if __name__ == "__main__":
    fabric = lightning.Fabric(**rustorch_fabric(devices=2))
    fabric.launch()
    layers = tests.Model().layers
    model, optimizer = fabric.setup(layers, torch.optim.SGD(layers.parameters(), lr=0.1))
    for inputs, labels in fabric.setup_dataloaders(tests.loader()):
        optimizer.zero_grad()
        fabric.backward(torch.nn.functional.cross_entropy(model(inputs), labels))
        optimizer.step()
    assert fabric.world_size == 2 and inputs.device.type == "rustorch"
    print(f"rank {fabric.global_rank} sums {sum(p.sum().item() for p in model.parameters()):.6f}", flush=True)
"""


@pytest.mark.parametrize("program", [TRAINED, FABRIC], ids=["Trainer", "Fabric"])
def test_lightning(program, tmp_path):
    pytest.importorskip("lightning", reason="Lightning is not installed: `make libraries` installs it")
    script = tmp_path / "script.py"
    script.write_text(program)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    # Both write to one stream, and may do so to one line.
    sums = dict(re.findall(r"rank (\d) sums (-?\d+\.\d{6})", done.stdout))
    assert sums.keys() == {"0", "1"} and sums["0"] == sums["1"]
