"""Runs a function in several processes that form a group."""

import io
import multiprocessing
import queue
import tempfile
import traceback
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any

import torch


def _rank(work: Callable[..., Any], rank: int, world: int, file: str, backend: str | None, answers: Any) -> None:
    import torch.distributed as dist

    import rustorch_device  # noqa: F401

    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            backend, init_method=f"file://{file}", rank=rank, world_size=world, timeout=timedelta(seconds=60)
        )
        # As bytes: a tensor that shares memory would be lost with this process.
        answer = io.BytesIO()
        torch.save(work(), answer)
        answers.put((rank, answer.getvalue(), None))
    except BaseException:
        answers.put((rank, None, traceback.format_exc()))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def run(
    work: Callable[[], Any],
    world: int = 2,
    backend: str | None = "gloo",
    seconds: int = 240,
    lost: Collection[int] = (),
) -> list[Any]:
    """What `work` gives in each rank but those that are `lost`: they die, or hang. None of the processes is left
    behind."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    results: dict[int, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            context.Process(target=_rank, args=(work, rank, world, f"{folder}/store", backend, answers), daemon=True)
            for rank in range(world)
        ]
        for process in ranks:
            process.start()
        try:
            for _ in range(world - len(lost)):
                try:
                    rank, answer, trouble = answers.get(timeout=seconds)
                except queue.Empty:
                    raise AssertionError(f"no answer in {seconds} s, but of the ranks {sorted(results)}") from None
                assert trouble is None, f"rank {rank}: {trouble}"
                results[rank] = torch.load(io.BytesIO(answer), weights_only=False)
        finally:
            for rank, process in enumerate(ranks):
                process.join(0 if rank in lost else 10)
                process.kill()
                process.join()
    return [results[rank] for rank in range(world) if rank not in lost]
