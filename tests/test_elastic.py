"""What becomes of the other ranks where one dies or hangs, and of a run that torchrun starts again."""

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from distributed.marks import WORLDS, every_case, needs_gloo
from distributed.ranks import run
from distributed.torchrun import torchrun

pytestmark = needs_gloo


def _outlived(hangs: bool) -> tuple[str, str, float]:
    """The last rank dies or hangs; gives what the others get, and after how many seconds."""
    import torch.distributed as dist

    group = dist.new_group(timeout=timedelta(seconds=4))
    x = torch.ones(3, device="rustorch")
    dist.all_reduce(x, group=group)
    if dist.get_rank() == dist.get_world_size() - 1:
        if not hangs:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)
    start = time.monotonic()
    try:
        dist.all_reduce(x, group=group)
    except Exception as error:
        return type(error).__name__, str(error), time.monotonic() - start
    return "", "no error", time.monotonic() - start


def _outlived_a_death() -> tuple[str, str, float]:
    return _outlived(hangs=False)


def _outlived_a_hang() -> tuple[str, str, float]:
    return _outlived(hangs=True)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(("case", "least", "most"), [(_outlived_a_death, 0, 4), (_outlived_a_hang, 3, 10)])
def test_the_others_raise(case, least, most, world):
    for kind, text, seconds in run(case, world, lost=[world - 1]):
        assert kind in ("RuntimeError", "DistBackendError", "DistNetworkError"), text
        assert least <= seconds <= most, (seconds, text)
        assert "rustorch:0" in text and "another rank has died" in text and "--max-restarts" in text


def _trained(folder: Path, world: int, *arguments: str) -> dict:
    folder.mkdir()
    # torchrun keeps one store over its restarts otherwise, and a rank that comes first reads the addresses of the
    # start before: gloo gets no connection, on the CPU too (pytorch/pytorch#135712; docs/distributed.md).
    torchrun("resumed.py", world, str(folder), *arguments, restarts=1, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
    processes = [int(file.read_text()) for file in folder.glob("*.pid")]
    assert len(processes) >= world
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    return torch.load(folder / "done.pt")


@every_case
@pytest.mark.parametrize("world", [2, 3])
def test_a_run_goes_on_where_a_rank_was_killed(tmp_path, world):
    through, again = _trained(tmp_path / "through", world), _trained(tmp_path / "again", world, "2")
    assert (through["start"], through["first"]) == (0, 0)
    assert (again["start"], again["first"]) == (1, 2)
    assert through["weights"].keys() == again["weights"].keys()
    for name, value in through["weights"].items():
        assert torch.equal(again["weights"][name], value), name
