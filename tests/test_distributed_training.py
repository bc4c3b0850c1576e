"""Training in several processes on the device, beside the CPU and beside one process."""

from functools import cache, partial
from typing import Any

import pytest
import torch
from distributed import pipelines, sync_batch_norm, training
from distributed.alike import assert_alike
from distributed.marks import EVERY_CASE, WORLDS, every_case, needs_gloo
from distributed.ranks import run

pytestmark = needs_gloo

#: What three ranks train where not every case is asked for.
SLICE = ("DDP", "DDP with SyncBatchNorm", "FSDP2", "DTensor")
NAMES = {2: tuple(training.TRAININGS), 3: tuple(training.TRAININGS) if EVERY_CASE else SLICE}


@cache
def trained(world: int) -> list[dict[str, dict[str, Any]]]:
    return run(partial(training.trainings, NAMES[world]), world)


@pytest.mark.parametrize(("world", "name"), [(world, name) for world, names in NAMES.items() for name in names])
def test_training(name, world):
    for outcomes in trained(world):
        expected, actual = outcomes[name]["cpu"], outcomes[name]["rustorch"]
        assert isinstance(expected, list), expected
        assert isinstance(actual, list), actual
        tolerance = 2e-2 if name in training.ROUNDED else 1e-5
        assert_alike(actual, expected, rtol=tolerance, atol=tolerance)
    first, *others = (outcomes[name]["rustorch"][1:] for outcomes in trained(world))
    for other in others:
        for mine, theirs in zip(first, other, strict=True):
            # Ranks that split one model would need one batch.
            assert torch.equal(mine, theirs) or name == "tensor parallel"


@pytest.mark.parametrize(
    ("compiled", "eager"),
    [
        ("DDP compiled", "DDP"),
        ("DDP of a compiled model", "DDP"),
        ("FSDP2 compiled", "FSDP2"),
        ("FSDP2 of compiled blocks", "FSDP2"),
    ],
)
def test_compiled_training_is_the_eager_one(compiled, eager):
    for outcomes in trained(2):
        for device in ("cpu", "rustorch"):
            assert_alike(outcomes[compiled][device], outcomes[eager][device], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("world", WORLDS)
def test_what_the_page_says(world):
    for found in run(training.stated, world):
        assert (found["mesh"], found["device"]) == ("rustorch", "rustorch")
        # As on any accelerator, `foreach` is what an optimizer takes unless it is told.
        refused = {case for case, text in found.items() if "mixed torch.Tensor and DTensor" in text}
        assert refused == {"cpu True", "rustorch True", "rustorch None"}
        assert all(found[case] == "" for case in ("cpu None", "cpu False", "rustorch False"))


@pytest.mark.parametrize("world", WORLDS)
def test_sync_batch_norm_is_batch_norm_over_the_whole_batch(world):
    for found in run(sync_batch_norm.all_normalised, world):
        assert len(found) == 30
        for case, results in found.items():
            half = "float16" in case
            tolerance = 1e-12 if "float64" in case else 2e-2 if half else 2e-5
            for name, actual, expected in results:
                wide = actual.double() if actual.is_floating_point() else actual
                try:
                    torch.testing.assert_close(wide, expected, rtol=tolerance, atol=tolerance)
                except AssertionError as error:
                    raise AssertionError(f"{case}, {name}: {error}") from None


@pytest.mark.parametrize("world", WORLDS)
def test_pipelines(world):
    for found in run(pipelines.all_staged, world):
        for name in pipelines.SCHEDULES:
            assert_alike(found[name], found["whole"], rtol=1e-5, atol=1e-6)


@every_case
@pytest.mark.parametrize("world", [2, 3])
def test_a_sampler_splits_each_epoch(world):
    ranks = run(pipelines.sampled, world)
    for epoch in range(2):
        seen = sorted(value for epochs in ranks for value in epochs[epoch])
        # Padded to a multiple of the ranks, with the first ones again.
        assert set(seen) == set(range(10)) and len(seen) == -(-10 // world) * world
    assert ranks[0][0] != ranks[0][1]
