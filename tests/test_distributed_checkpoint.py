"""`torch.distributed.checkpoint` on the device, written by some number of ranks and read by another."""

from functools import partial

import pytest
import torch
from distributed import checkpoints
from distributed.alike import assert_alike
from distributed.marks import every_case, needs_gloo
from distributed.ranks import run

pytestmark = needs_gloo


def saved(folder, world, asynchronously=False):
    work = partial(checkpoints.saved, str(folder), asynchronously)
    ranks = [work()] if world == 0 else run(work, world)
    for other in ranks[1:]:
        assert_alike(other, ranks[0], rtol=0, atol=0)
    return ranks[0]


def check_loaded(folder, world, expected):
    """`world` ranks, or one process without a group, read what was written, and go on alike."""
    work = partial(checkpoints.loaded, str(folder))
    for before, after in [work()] if world == 0 else run(work, world):
        assert_alike(before, expected, rtol=0, atol=0)
        assert after["model"].keys() == expected["model"].keys()
        for name, value in after["model"].items():
            assert not torch.equal(value, expected["model"][name])
    return after


def test_one_process(tmp_path):
    for folder, asynchronously in (("at once", False), ("meanwhile", True)):
        expected = saved(tmp_path / folder, 0, asynchronously)
        check_loaded(tmp_path / folder, 0, expected)


def test_two_ranks_and_one(tmp_path):
    """Also what a checkpoint of one process refuses: a model that is spread over several."""
    ranks = run(partial(checkpoints.saved_and_loaded, str(tmp_path)))
    alone = check_loaded(tmp_path / "checkpoint", 0, ranks[0][0])
    for saved, before, after, texts in ranks:
        assert_alike(saved, ranks[0][0], rtol=0, atol=0)
        assert_alike(before, saved, rtol=0, atol=0)
        # Sums over shards are taken in another order.
        assert_alike(after["model"], alone["model"], rtol=1e-6, atol=1e-6)
        assert len(texts) == 4
        for text in texts:
            assert "DTensor" in text and "torch.distributed.checkpoint" in text and "full_tensor()" in text


@every_case
@pytest.mark.parametrize("asynchronously", [False, True])
@pytest.mark.parametrize(("wrote", "reads"), [(2, 1), (2, 3), (3, 2), (1, 3), (3, 1), (0, 2), (3, 0)])
def test_other_numbers_of_ranks(tmp_path, wrote, reads, asynchronously):
    expected = saved(tmp_path / "checkpoint", wrote, asynchronously)
    check_loaded(tmp_path / "checkpoint", reads, expected)
