"""torch.distributed on the device, in two processes, beside the CPU; and programs that never heard of the device."""

import json
import os
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
import torch
from distributed import collectives
from distributed.alike import assert_alike
from distributed.marks import EVERY_CASE, every_case, needs_gloo
from distributed.ranks import run
from distributed.torchrun import torchrun

from benches import distributed as bench

pytestmark = needs_gloo


@pytest.fixture(scope="module", params=[2, 3])
def collected(request) -> list[dict[str, dict[str, Any]]]:
    every = EVERY_CASE or request.param == 2
    return run(partial(collectives.outcomes, collectives.DTYPES if every else collectives.DTYPES[:1]), request.param)


@pytest.mark.parametrize("name", [*collectives.CASES, "objects"])
def test_collectives(name, collected):
    for outcomes in collected:
        found = {case: outcome for case, outcome in outcomes.items() if case.rsplit(" ", 1)[0] == name or case == name}
        assert len(found) in (1, len(collectives.DTYPES))
        for outcome in found.values():
            assert_alike(outcome["rustorch"], outcome["cpu"], rtol=0, atol=0)


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


@every_case
@pytest.mark.parametrize("program", ["accelerate", "inductor"])
def test_nothing_breaks_under_torchrun_by_being_installed(tmp_path, program):
    if program == "accelerate":
        pytest.importorskip("accelerate", reason="`make distributed` installs accelerate")
    said = []
    for autoload in ("1", "0"):
        folder = tmp_path / autoload
        folder.mkdir()
        torchrun("unaware.py", 2, program, str(folder), RUSTORCH_AUTOLOAD=autoload)
        said.append([(folder / str(rank)).read_text() for rank in range(2)])
    assert said[0] == said[1]
    assert "rustorch" not in said[0][0]


def _refusals() -> dict[str, tuple[str, str]]:
    """By case, the exception's type and text."""
    import torch.distributed as dist

    world = dist.get_world_size()
    without = dist.new_group(backend="cpu:gloo")
    ours, theirs = torch.ones(2, device="rustorch"), torch.ones(2)
    calls = {
        "without gloo": lambda: dist.all_reduce(ours, group=without),
        "without gloo, at once": lambda: dist.all_gather([ours] * world, ours, group=without, async_op=True),
        "mixed": lambda: dist.all_gather([theirs] * world, ours),
        "mixed the other way": lambda: dist.all_gather([ours] * world, theirs),
        "nccl": lambda: dist.new_group(backend="nccl"),
        "nccl for the device": lambda: dist.new_group(backend="rustorch:nccl"),
        "too many elements": lambda: dist.all_gather_into_tensor(torch.ones(1, device="rustorch"), ours),
        "a sparse tensor": lambda: dist.all_reduce(torch.ones(2, 2, device="rustorch").to_sparse()),
        "another index": lambda: torch.rustorch.set_device(dist.get_world_size()),
        "another device": lambda: torch.ones(2, device=f"rustorch:{dist.get_world_size()}"),
    }
    found = {}
    for name, call in calls.items():
        try:
            call()
            found[name] = ("", "nothing was raised")
        except Exception as error:
            found[name] = (type(error).__name__, str(error))
    # The group has come through it all.
    dist.all_reduce(ours)
    assert ours.tolist() == [world] * 2
    return found


@pytest.mark.parametrize("world", [1, 2])
def test_bad_use_is_refused(world):
    for found in run(_refusals, world):
        for kind, text in found.values():
            assert kind in ("RuntimeError", "ValueError", "NotImplementedError", "DistBackendError"), text
        for name in ("without gloo", "without gloo, at once"):
            assert "No backend type associated with device type rustorch" in found[name][1]
            assert "gloo" in found[name][1]
        for name in ("mixed", "mixed the other way"):
            assert "rustorch:0" in found[name][1] and "cpu" in found[name][1]
        assert "alias" in found["mixed"][1]
        for name in ("nccl", "nccl for the device"):
            assert "rustorch" in found[name][1] and 'new_group(backend="gloo")' in found[name][1]
        # One sentence, whoever says it.
        assert found["another index"] == found["another device"]
        assert "local rank" in found["another index"][1] and "rustorch:0" in found["another index"][1]


def _alone() -> list[list[float]]:
    """A world of one: a collective gives what it was given, and DDP and FSDP2 train."""
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    x = torch.arange(3.0, device="rustorch")
    parts = [torch.zeros(3, device="rustorch")]
    dist.all_gather(parts, x)
    dist.all_reduce(x)
    gradients = []
    for spread in (torch.nn.parallel.DistributedDataParallel, fully_shard):
        torch.manual_seed(0)
        model = spread(torch.nn.Linear(3, 2).to("rustorch"))
        model(x).sum().backward()
        gradient = next(model.parameters()).grad
        gradients.append(gradient.full_tensor() if spread is fully_shard else gradient)
    assert torch.equal(*gradients)
    return [x.tolist(), parts[0].tolist(), gradients[0][0].tolist()]


def test_a_world_of_one():
    assert run(_alone, 1) == [[[0.0, 1.0, 2.0]] * 3]


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


@every_case
def test_the_bench_runs(tmp_path, capfd):
    results = tmp_path / "results.json"
    assert bench.main(["--quick", "--json", str(results)]) == 0
    cases = json.loads(results.read_text())
    assert [case["case"].split(",")[0] for case in cases] == [kind for kind in bench.SPREADS for _ in range(3)]
    assert {case["arm"] for case in cases} == {"cpu", "rustorch", "rust_backend"}
    assert not any(case["failure"] or case["fallbacks"] for case in cases)
    assert capfd.readouterr().out.count("of the ratio of one process") == 4
