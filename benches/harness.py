"""Measures arms side by side: in one process, taken in turns, best and median of many samples.

A case's first arm is the peer (PyTorch on the CPU), and the others are compared with it. A ratio is
the peer's time divided by the arm's: above 1, the arm is faster. A share is the least time that the
case's arithmetic and its bytes need on this machine, divided by the arm's.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import repeat

import torch
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only

Arm = Callable[[], object]


@dataclass
class Case:
    """Something that every arm does in its own way."""

    bench: str
    name: str
    arms: dict[str, Arm]
    # Allowed difference from the peer's result, relative to its largest value; None: not compared.
    tolerance: float | None = 1e-3
    # What a call computes, and what it reads and writes at least; 0: not counted.
    flops: float = 0.0
    bytes: float = 0.0
    # Arms that could not be made, and why.
    failures: dict[str, str] = field(default_factory=dict)


@dataclass
class Effort:
    """How long to measure."""

    samples: int = 15
    # A sample repeats the call until it lasts this long.
    sample_seconds: float = 2e-3
    # A case stops early after this long, though not before `fewest` samples of each arm.
    case_seconds: float = 4.0
    fewest: int = 5
    # As many calls a sample, whatever they take: for processes that wait for each other.
    calls: int | None = None
    # Before each sample: so long nothing, then a call that is not measured. The threads of OpenMP and of other pools
    # spin for up to 15 ms after their work, on a core that the next arm needs.
    pause_seconds: float = 0.02


QUICK = Effort(samples=2, sample_seconds=2e-4, case_seconds=1.0, fewest=2, pause_seconds=0.0)


@dataclass
class Result:
    bench: str
    case: str
    threads: int
    arm: str
    peer: str
    best_us: float
    median_us: float
    # The peer's time divided by the arm's.
    ratio_best: float
    ratio_median: float
    samples: int
    failure: str = ""
    # The ops that had no Rust kernel: the time is then PyTorch's CPU kernel's, and the way to it.
    fallbacks: list[str] = field(default_factory=list)
    # Of a call, as its case declares them.
    flops: float = 0.0
    bytes: float = 0.0
    # Of what the machine can do; None: not known.
    share: float | None = None

    @classmethod
    def failed(cls, case: Case, threads: int, arm: str, failure: str) -> "Result":
        nothing = float("nan")
        times = (nothing, nothing, nothing, nothing)
        return cls(case.bench, case.name, threads, arm, next(iter(case.arms), arm), *times, 0, failure)

    def to_dict(self) -> dict:
        return asdict(self)


def said(error: Exception) -> str:
    """An arm's failure, in a line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def made(makers: dict[str, Callable[[], Arm]]) -> tuple[dict[str, Arm], dict[str, str]]:
    """The arms that can be made, and why the others cannot: a peer that is not installed ends no run."""
    arms, failures = {}, {}
    for name, make in makers.items():
        try:
            arms[name] = make()
        except Exception as error:
            failures[name] = said(error)
    return arms, failures


class Differs(Exception):
    """An arm's result is not the peer's, so that its time means nothing."""


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def sample(arm: Arm, calls: int) -> float:
    """Seconds a call."""
    started = time.perf_counter()
    for _ in repeat(None, calls):
        arm()
    return (time.perf_counter() - started) / calls


def calls_for(arm: Arm, seconds: float) -> int:
    """How many calls last about as long as a sample should; warms the arm up on the way."""
    arm()
    calls = 1
    while (taken := sample(arm, calls) * calls) < seconds / 2:
        calls = max(calls * 2, int(calls * seconds / max(taken, 1e-9) / 2))
    return max(1, round(calls * seconds / taken))


def fallback_counts() -> dict[str, int]:
    device = getattr(torch, "rustorch", None)
    return device.fallback_counts() if device else {}


def compare(peer: object, result: object, tolerance: float) -> None:
    """Raises `Differs` where an arm's result, tensors or lists of them, is not the peer's.

    A case whose arms give nothing to compare says so by a tolerance of None.
    """
    expected, structure = tree_flatten(peer)
    actual, given = tree_flatten(result)
    if given != structure:
        raise Differs(f"gives {given}, not {structure}")
    for theirs, mine in zip(expected, actual, strict=True):
        if not isinstance(theirs, torch.Tensor) or not isinstance(mine, torch.Tensor):
            raise Differs(f"gives {type(mine).__name__} where the peer gives {type(theirs).__name__}: not comparable")
        _compare_tensors(theirs, mine, tolerance)


def _compare_tensors(peer: torch.Tensor, result: torch.Tensor, tolerance: float) -> None:
    if peer.shape != result.shape or peer.dtype != result.dtype:
        raise Differs(f"{result.dtype} of shape {tuple(result.shape)}, not {peer.dtype} of shape {tuple(peer.shape)}")
    expected, actual = peer.detach().cpu().double(), result.detach().cpu().double()
    if expected.numel() == 0:
        return
    difference = ((actual - expected).abs().max() / expected.abs().max().clamp(min=1)).item()
    if not difference <= tolerance:
        raise Differs(f"differs from the peer by {difference:.1e}")


def measure(case: Case, thread_count: int, effort: Effort) -> list[Result]:
    """One result an arm. An arm that fails or differs has its failure written instead of times."""
    with threads(thread_count):
        arms, failures, fallbacks = dict(case.arms), dict(case.failures), {}
        peer_name = next(iter(arms))
        expected = arms[peer_name]()
        for name, arm in list(arms.items())[1:]:
            before = fallback_counts()
            try:
                result = arm()
                fallbacks[name] = sorted(op for op, count in fallback_counts().items() if count > before.get(op, 0))
                if case.tolerance is not None:
                    compare(expected, result, case.tolerance)
            except Exception as error:
                failures[name] = said(error)
                del arms[name]
        calls = {name: effort.calls or calls_for(arm, effort.sample_seconds) for name, arm in arms.items()}
        times: dict[str, list[float]] = {name: [] for name in arms}
        started = time.perf_counter()
        for taken in range(effort.samples):
            if taken >= effort.fewest and time.perf_counter() - started > effort.case_seconds:
                break
            for name, arm in arms.items():
                if effort.pause_seconds:
                    time.sleep(effort.pause_seconds)
                    arm()
                times[name].append(sample(arm, calls[name]))
    best = {name: min(values) for name, values in times.items()}
    median = {name: statistics.median(values) for name, values in times.items()}
    results = [
        Result(
            case.bench,
            case.name,
            thread_count,
            name,
            peer_name,
            best[name] * 1e6,
            median[name] * 1e6,
            best[peer_name] / best[name],
            median[peer_name] / median[name],
            len(times[name]),
            fallbacks=fallbacks.get(name, []),
            flops=case.flops,
            bytes=case.bytes,
        )
        for name in arms
    ]
    return results + [Result.failed(case, thread_count, name, failure) for name, failure in failures.items()]


def size(values: object) -> int:
    """The bytes of all tensors among the values."""
    return sum(value.nbytes for value in tree_leaves(values) if isinstance(value, torch.Tensor))


def both(
    bench: str,
    name: str,
    function: Callable[..., object],
    *inputs: object,
    tolerance: float = 1e-3,
    flops: float = 0.0,
    moved: float | None = None,
) -> Case:
    """A case of one function on the same inputs, on the CPU and on rustorch.

    `moved` is what a call reads and writes; where it is not said, each input is read and each result written once.
    """
    there = tree_map_only(torch.Tensor, lambda value: value.detach().to("rustorch"), inputs)
    arms: dict[str, Arm] = {"cpu": lambda: function(*inputs), "rustorch": lambda: function(*there)}
    return Case(bench, name, arms, tolerance, flops, size([inputs, function(*inputs)]) if moved is None else moved)


def both_ways(
    bench: str, name: str, function: Callable[..., torch.Tensor], *inputs: torch.Tensor, flops: float = 0.0
) -> Iterator[Case]:
    """Two cases, of a function's call and of its derivative: by the inputs of a floating dtype, the result given.

    The backward pass of products costs twice the FLOPs.
    """
    yield both(bench, f"{name}: forward", function, *inputs, flops=flops)
    arms: dict[str, Arm] = {}
    slope = torch.randn_like(function(*inputs))
    for device in ("cpu", "rustorch"):
        given = [value.to(device).detach() for value in inputs]
        by = [value.requires_grad_() for value in given if value.is_floating_point()]
        result = function(*given)
        arms[device] = partial(torch.autograd.grad, result, by, slope.to(device), retain_graph=True)
    moved = 2 * size(by) + size(slope)
    yield Case(bench, f"{name}: backward", arms, 1e-3, 2 * flops, moved)
