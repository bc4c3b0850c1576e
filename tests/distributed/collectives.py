"""Collectives on a device: the values they leave, or the exceptions they raise."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.uint8, torch.bool)
OPS = ("SUM", "MAX", "MIN", "PRODUCT", "AVG", "BAND")


def _given(device: str, dtype: torch.dtype, *sizes: int) -> torch.Tensor:
    """Different in each rank."""
    count = torch.Size(sizes).numel()
    return ((torch.arange(count) + 3 * dist.get_rank()) % 5).view(sizes).to(dtype).to(device)


def _each(device: str, dtype: torch.dtype, *sizes: int) -> list[torch.Tensor]:
    return [torch.zeros(sizes, dtype=dtype, device=device) for _ in range(dist.get_world_size())]


def _waited(work: Any, *tensors: torch.Tensor) -> list[torch.Tensor]:
    work.wait()
    assert work.is_completed()
    return list(tensors)


def _broadcast(device: str, dtype: torch.dtype) -> Any:
    tensor = _given(device, dtype, 2, 3)
    dist.broadcast(tensor, 1)
    return tensor


def _gather(device: str, dtype: torch.dtype) -> Any:
    out = _each(device, dtype, 5) if dist.get_rank() == 0 else None
    dist.gather(_given(device, dtype, 5), out)
    return out


def _scatter(device: str, dtype: torch.dtype) -> Any:
    out = torch.zeros(3, dtype=dtype, device=device)
    parts = [(_given(device, dtype, 3) + at).to(dtype) for at in range(dist.get_world_size())]
    dist.scatter(out, parts if dist.get_rank() == 0 else None)
    return out


def _all_gather(device: str, dtype: torch.dtype) -> Any:
    out = _each(device, dtype, 2, 2)
    dist.all_gather(out, _given(device, dtype, 2, 2))
    return out


def _all_gather_into(device: str, dtype: torch.dtype) -> Any:
    out = torch.zeros(2 * dist.get_world_size(), dtype=dtype, device=device)
    return _waited(dist.all_gather_into_tensor(out, _given(device, dtype, 2), async_op=True), out)


def _reduce_scatter(device: str, dtype: torch.dtype) -> Any:
    out = torch.zeros(2, dtype=dtype, device=device)
    dist.reduce_scatter(out, [_given(device, dtype, 2) for _ in range(dist.get_world_size())])
    return out


def _reduce_scatter_tensor(device: str, dtype: torch.dtype) -> Any:
    out = torch.zeros(2, dtype=dtype, device=device)
    dist.reduce_scatter_tensor(out, _given(device, dtype, 2 * dist.get_world_size()))
    return out


def _all_to_all(device: str, dtype: torch.dtype) -> Any:
    out = _each(device, dtype, 2)
    dist.all_to_all(out, [_given(device, dtype, 2) for _ in out])
    return out


def _all_to_all_single(device: str, dtype: torch.dtype) -> Any:
    given = _given(device, dtype, 2 * dist.get_world_size())
    out = torch.zeros_like(given)
    dist.all_to_all_single(out, given)
    return out


def _send(device: str, dtype: torch.dtype) -> Any:
    rank, world = dist.get_rank(), dist.get_world_size()
    out = torch.zeros(4, dtype=dtype, device=device)
    request = dist.isend(_given(device, dtype, 4), (rank + 1) % world)
    source = dist.recv(out)
    request.wait()
    return [out, torch.tensor(source)]


def _coalesced(device: str, dtype: torch.dtype) -> Any:
    tensors = [_given(device, dtype, 3), _given(device, dtype, 2, 2)]
    dist.all_reduce_coalesced(tensors)
    return tensors


def _reduce(device: str, dtype: torch.dtype) -> Any:
    tensor = _given(device, dtype, 5)
    dist.reduce(tensor, dist.get_world_size() - 1)
    return tensor if dist.get_rank() == dist.get_world_size() - 1 else None


def _uneven(device: str, dtype: torch.dtype) -> Any:
    """Rank `r` sends `r + 1` elements to each, so it receives `s + 1` from rank `s`."""
    rank, world = dist.get_rank(), dist.get_world_size()
    out = torch.zeros(world * (world + 1) // 2, dtype=dtype, device=device)
    given = _given(device, dtype, world * (rank + 1))
    dist.all_to_all_single(out, given, list(range(1, world + 1)), [rank + 1] * world)
    return out


def _ring(device: str, dtype: torch.dtype) -> Any:
    rank, world = dist.get_rank(), dist.get_world_size()
    out, given = torch.zeros(2, 2, dtype=dtype, device=device), _given(device, dtype, 2, 2)
    steps = [
        dist.P2POp(dist.isend, given, (rank + 1) % world),
        dist.P2POp(dist.irecv, out, (rank - 1) % world),
    ]
    for request in dist.batch_isend_irecv(steps):
        request.wait()
    return out


def _in_flight(device: str, dtype: torch.dtype) -> Any:
    """Several at once, which are waited for in the order of their starts and the other way round."""
    tensors = [_given(device, dtype, size) for size in (3, 0, 5)]
    parts, given = _each(device, dtype, 4), _given(device, dtype, 2)
    works = [dist.all_reduce(tensor, dist.ReduceOp.MAX, async_op=True) for tensor in tensors]
    works += [
        dist.all_gather(parts, _given(device, dtype, 4), async_op=True),
        dist.broadcast(given, 0, async_op=True),
    ]
    for work in (*works[::2], *works[1::2][::-1]):
        work.wait()
    return [*tensors, *parts, given]


def _asynchronous_and_strided(device: str, dtype: torch.dtype) -> Any:
    whole = _given(device, dtype, 4, 6)
    return _waited(dist.broadcast(whole[:, ::3], 1, async_op=True), whole)


def _part_of_the_ranks(device: str, dtype: torch.dtype) -> Any:
    group = dist.new_group([0, dist.get_world_size() - 1])
    tensor = _given(device, dtype, 4)
    if dist.get_rank() in (0, dist.get_world_size() - 1):
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=group)
        dist.destroy_process_group(group)
    return tensor


def _strided(device: str, dtype: torch.dtype) -> Any:
    whole = _given(device, dtype, 4, 6)
    dist.all_reduce(whole[::2, 1:3])
    return whole


def _transposed(device: str, dtype: torch.dtype) -> Any:
    whole = _given(device, dtype, 4, 6)
    dist.broadcast(whole.t(), 0)
    return whole


def _empty(device: str, dtype: torch.dtype) -> Any:
    tensor = torch.zeros(0, 3, dtype=dtype, device=device)
    dist.all_reduce(tensor)
    return tensor


def _reduced(name: str) -> Callable[[str, torch.dtype], Any]:
    def all_reduce(device: str, dtype: torch.dtype) -> Any:
        tensor = _given(device, dtype, 7)
        dist.all_reduce(tensor, getattr(dist.ReduceOp, name))
        return tensor

    return all_reduce


def _future(device: str, dtype: torch.dtype) -> Any:
    tensor = _given(device, dtype, 7)
    future = dist.all_reduce(tensor, async_op=True).get_future()
    value = future.then(lambda done: done.value()[0] * 2).wait()
    assert value.device.type == device
    return [tensor, value]


def _functional(device: str, dtype: torch.dtype) -> Any:
    group = dist.group.WORLD
    given = _given(device, dtype, 4)
    return [
        functional.all_reduce(given, "sum", group) + 0,
        functional.all_gather_tensor(given, 0, group) + 0,
        functional.reduce_scatter_tensor(given, "sum", 0, group) + 0,
    ]


def _mixed(device: str, dtype: torch.dtype) -> Any:
    if device == "cpu":
        raise RuntimeError("what the device is to raise")
    dist.all_gather(_each("cpu", dtype, 2), _given(device, dtype, 2))


CASES: dict[str, Callable[[str, torch.dtype], Any]] = {
    "broadcast": _broadcast,
    "gather": _gather,
    "scatter": _scatter,
    "all_gather": _all_gather,
    "all_gather_into_tensor": _all_gather_into,
    "reduce_scatter": _reduce_scatter,
    "reduce_scatter_tensor": _reduce_scatter_tensor,
    "all_to_all": _all_to_all,
    "all_to_all_single": _all_to_all_single,
    "send and recv": _send,
    "coalesced": _coalesced,
    "reduce": _reduce,
    "all_to_all_single of uneven parts": _uneven,
    "ring": _ring,
    "in flight": _in_flight,
    "asynchronous and strided": _asynchronous_and_strided,
    "part of the ranks": _part_of_the_ranks,
    "strided": _strided,
    "transposed": _transposed,
    "empty": _empty,
    "future": _future,
    "functional": _functional,
    "mixed devices": _mixed,
} | {f"all_reduce {name}": _reduced(name) for name in OPS}


def _values(result: Any) -> Any:
    if isinstance(result, torch.Tensor):
        return result.cpu()
    return [_values(each) for each in result] if isinstance(result, list) else result


def outcomes(dtypes: Sequence[torch.dtype] = DTYPES) -> dict[str, dict[str, Any]]:
    """By case and dtype, then by device: the values, or the exception's type."""
    found: dict[str, dict[str, Any]] = {}
    for name, case in CASES.items():
        for dtype in dtypes:
            outcome = {}
            for device in ("cpu", "rustorch"):
                try:
                    outcome[device] = _values(case(device, dtype))
                except Exception as error:
                    outcome[device] = type(error).__name__
            found[f"{name} {dtype}"] = outcome
    objects: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(objects, {"rank": dist.get_rank()})
    dist.barrier()
    found["objects"] = {"cpu": [{"rank": rank} for rank in range(len(objects))], "rustorch": objects}
    return found
