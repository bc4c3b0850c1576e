"""The integrations in several processes: torchrun with accelerate, and Lightning's own launcher."""

import os
import subprocess
import sys

import pytest

LAUNCHED = """
import sys, torch, accelerate, rustorch_device.integrations.accelerate
accelerator = accelerate.Accelerator()
assert accelerator.device.type == "rustorch", accelerator.device
ranks = accelerator.gather(torch.tensor([accelerator.process_index], device=accelerator.device))
model = accelerator.prepare(torch.nn.Linear(2, 1))
model(torch.ones(1, 2, device=accelerator.device)).sum().backward()
open(sys.argv[1] + str(accelerator.process_index), "w").write(f"{ranks.tolist()} {type(model).__name__}")
"""


def test_torchrun(tmp_path):
    pytest.importorskip("accelerate", reason="accelerate is not installed: `make libraries` installs it")
    script = tmp_path / "script.py"
    script.write_text(LAUNCHED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(tmp_path / "rank")], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / f"rank{rank}").read_text() for rank in range(2)] == ["[0, 1] DistributedDataParallel"] * 2


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


def test_lightning(tmp_path):
    pytest.importorskip("lightning", reason="Lightning is not installed: `make libraries` installs it")
    script = tmp_path / "script.py"
    script.write_text(TRAINED)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    sums = sorted(line.split(" sums ") for line in done.stdout.splitlines() if line.startswith("rank "))
    assert [rank for rank, _ in sums] == ["rank 0", "rank 1"]
    assert sums[0][1] == sums[1][1]
