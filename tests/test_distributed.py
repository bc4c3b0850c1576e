"""torch.distributed on the device, in two processes, beside the CPU; and programs that never heard of the device."""

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from distributed import collectives, training
from distributed.ranks import run

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="torch has no gloo"
)


def assert_alike(actual: Any, expected: Any, **tolerance: float) -> None:
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(actual, expected, **tolerance)
    elif isinstance(expected, list):
        assert len(actual) == len(expected)
        for mine, theirs in zip(actual, expected, strict=True):
            assert_alike(mine, theirs, **tolerance)
    else:
        assert actual == expected


@pytest.fixture(scope="module")
def collected() -> list[dict[str, dict[str, Any]]]:
    return run(collectives.outcomes)


@pytest.mark.parametrize("name", [*collectives.CASES, "objects"])
def test_collectives(name, collected):
    for outcomes in collected:
        found = {case: outcome for case, outcome in outcomes.items() if case.rsplit(" ", 1)[0] == name or case == name}
        assert len(found) in (1, len(collectives.DTYPES))
        for outcome in found.values():
            assert_alike(outcome["rustorch"], outcome["cpu"], rtol=0, atol=0)


@pytest.fixture(scope="module")
def trained() -> list[dict[str, dict[str, Any]]]:
    return run(training.trainings)


@pytest.mark.parametrize("name", training.TRAININGS)
def test_training(name, trained):
    for outcomes in trained:
        expected, actual = outcomes[name]["cpu"], outcomes[name]["rustorch"]
        assert isinstance(expected, list), expected
        assert isinstance(actual, list), actual
        tolerance = 2e-2 if "bf16" in name or "hook" in name else 1e-5
        assert_alike(actual, expected, rtol=tolerance, atol=tolerance)
    for mine, theirs in zip(trained[0][name]["rustorch"][1:], trained[1][name]["rustorch"][1:], strict=True):
        # Ranks that split one model would need one batch.
        assert torch.equal(mine, theirs) or name == "tensor parallel"


PROGRAM = """
import os, sys, warnings
warnings.simplefilter("ignore")
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
torch.manual_seed(0)
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", RANK="0", WORLD_SIZE="1")
dist.init_process_group(init_method="file://" + sys.argv[1], rank=0, world_size=1)
x = torch.arange(3.0)
dist.all_reduce(x)
print(x, dist.get_backend())
mesh = init_device_mesh("cpu", (1,))
model = fully_shard(torch.nn.Linear(3, 2), mesh=mesh)
model(torch.ones(2, 3)).sum().backward()
print([parameter.grad.full_tensor().tolist() for parameter in model.parameters()])
copies = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 2))
print(copies(torch.ones(2, 3)).sum())
objects = [None]
dist.all_gather_object(objects, {"a": 1})
dist.barrier()
print(objects, dist.new_group([0]).size())
dist.destroy_process_group()
data = torch.utils.data.TensorDataset(torch.arange(10.0))
print([batch[0].tolist() for batch in torch.utils.data.DataLoader(data, batch_size=4, num_workers=2)])
print(torch.compile(lambda x: (x * 2).sin().sum(), backend="eager")(torch.ones(5)))
print(torch.compile(lambda x: (x * 2).sin().sum(), backend="aot_eager")(torch.ones(5)))
"""


def test_nothing_breaks_by_being_installed(tmp_path):
    outputs = []
    for autoload in ("1", "0"):
        environment = {**os.environ, "RUSTORCH_AUTOLOAD": autoload}
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / f"store{autoload}")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]


def _refusals() -> list[str]:
    import torch.distributed as dist

    texts = []
    nccl = dist.new_group([0, 1], backend="cpu:gloo")
    for call in (
        lambda: dist.all_reduce(torch.ones(2, device="rustorch"), group=nccl),
        lambda: dist.all_gather([torch.ones(2), torch.ones(2)], torch.ones(2, device="rustorch")),
    ):
        try:
            call()
        except RuntimeError as error:
            texts.append(str(error).splitlines()[0])
    return texts


def test_bad_use_is_refused():
    for texts in run(_refusals):
        assert len(texts) == 2
        assert "No backend type associated with device type rustorch" in texts[0]
        assert "rustorch" in texts[1] and "cpu" in texts[1]


def test_a_group_without_a_named_backend():
    assert run(_summed, backend=None) == [[3.0, 3.0]] * 2


def _summed() -> list[float]:
    import torch.distributed as dist

    results = []
    for device in ("cpu", "rustorch"):
        x = torch.full((1,), float(dist.get_rank() + 1), device=device)
        dist.all_reduce(x)
        results.append(x.item())
    return results
