"""`torch.rustorch`: the device as a module, with the names that PyTorch looks for.

There is one device, `rustorch:0`, which is the host. Work has ended when a call returns, so streams
and events are there for the sake of programs that use them.
"""

import collections
import contextlib
import platform
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from rustorch_device import _C

__all__ = [
    "DeviceProperties",
    "Event",
    "Stream",
    "current_device",
    "current_stream",
    "default_generators",
    "default_stream",
    "device",
    "device_count",
    "device_of",
    "empty_cache",
    "fallback_counts",
    "get_amp_supported_dtype",
    "get_device_capability",
    "get_device_name",
    "get_device_properties",
    "get_rng_state",
    "get_rng_state_all",
    "init",
    "initial_seed",
    "is_available",
    "is_bf16_supported",
    "is_initialized",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "max_memory_reserved",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "memory_summary",
    "reset_accumulated_memory_stats",
    "reset_fallback_counts",
    "reset_peak_memory_stats",
    "seed",
    "seed_all",
    "set_device",
    "set_fallback_policy",
    "set_rng_state",
    "set_rng_state_all",
    "set_stream",
    "stream",
    "synchronize",
]

_Device = torch.device | str | int | None


def _index(wanted: _Device = None) -> int:
    """The index that a device means; refuses any but 0."""
    if wanted is None:
        return 0
    if not isinstance(wanted, int):
        wanted = torch.device(wanted)
        if wanted.type != "rustorch":
            raise ValueError(f"Expected a rustorch device, but got: {wanted}")
        wanted = 0 if wanted.index is None else wanted.index
    if wanted != 0:
        # Which refuses it; Dynamo traces all but this.
        _C.check_index(wanted)
    return 0


# The device.


def is_available() -> bool:
    return True


#: What `torch.utils.checkpoint` asks before it saves the generator's state.
_initialized = True


def is_initialized() -> bool:
    return True


def init() -> None:
    """Nothing is left to initialise."""


_lazy_init = init


def _is_in_bad_fork() -> bool:
    """A forked child computes like its parent."""
    return False


def device_count() -> int:
    return 1


def current_device() -> int:
    return 0


def set_device(device: _Device) -> None:
    _index(device)


def _exchange_device(device: int) -> int:
    return 0 if device < 0 else _index(device)


_maybe_exchange_device = _exchange_device


class device:
    """Selects a device for the time of a `with` block; there is only one."""

    def __init__(self, device: _Device) -> None:
        self.idx = _index(device)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        pass


class device_of(device):
    """Selects the device of a tensor or storage."""

    def __init__(self, obj: Any) -> None:
        super().__init__(obj.device if obj.device.type == "rustorch" else None)


class DeviceProperties(NamedTuple):
    name: str
    simd_level: str
    total_memory: int
    multi_processor_count: int


def get_device_properties(device: _Device = None) -> DeviceProperties:
    _index(device)
    _, total = mem_get_info()
    return DeviceProperties(get_device_name(), _C.simd_level(), total, torch.get_num_threads())


def get_device_name(device: _Device = None) -> str:
    _index(device)
    return f"rustorch on {platform.processor() or platform.machine()}"


def get_device_capability(device: _Device = None) -> dict[str, Any]:
    return torch.accelerator.get_device_capability(_index(device))


def get_amp_supported_dtype() -> list[torch.dtype]:
    return [torch.bfloat16, torch.float16]


def is_bf16_supported(including_emulation: bool = True) -> bool:
    return True


# Streams and events.


class Stream(torch.Stream):
    """A stream, on which everything has ended already."""

    def __new__(cls, device: _Device = None, priority: int = 0, **kwargs: Any) -> "Stream":
        if "stream_id" in kwargs:
            return super().__new__(cls, priority=priority, **kwargs)
        return super().__new__(cls, device=torch.device("rustorch", _index(device)), priority=priority)


class Event(torch.Event):
    """An event: the moment at which it was recorded."""

    def __new__(cls, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> "Event":
        return super().__new__(
            cls, device="rustorch", enable_timing=enable_timing, blocking=blocking, interprocess=interprocess
        )


def current_stream(device: _Device = None) -> torch.Stream:
    return torch.accelerator.current_stream(_index(device))


def default_stream(device: _Device = None) -> torch.Stream:
    return Stream(stream_id=0, device_index=_index(device), device_type=_device_type())


def _device_type() -> int:
    return torch.Stream(device="rustorch").device_type


def set_stream(stream: torch.Stream) -> None:
    torch.accelerator.set_stream(stream)


@contextlib.contextmanager
def stream(stream: torch.Stream | None) -> Iterator[None]:
    """Makes a stream the current one for the time of a `with` block."""
    if stream is None:
        yield
        return
    before = current_stream()
    set_stream(stream)
    try:
        yield
    finally:
        set_stream(before)


def synchronize(device: _Device = None) -> None:
    _index(device)


# Random numbers.

default_generators = (_C.default_generator(),)


def manual_seed(seed: int) -> None:
    default_generators[0].manual_seed(int(seed))


manual_seed_all = manual_seed


def seed() -> None:
    """Seeds with a number from the system."""
    default_generators[0].seed()


seed_all = seed


def initial_seed() -> int:
    return default_generators[0].initial_seed()


def get_rng_state(device: _Device = None) -> torch.Tensor:
    _index(device)
    return default_generators[0].get_state()


def set_rng_state(new_state: torch.Tensor, device: _Device = None) -> None:
    _index(device)
    default_generators[0].set_state(new_state)


def get_rng_state_all() -> list[torch.Tensor]:
    return [get_rng_state()]


def set_rng_state_all(new_states: list[torch.Tensor]) -> None:
    for state in new_states:
        set_rng_state(state)


# Inductor.


def _inductor_backend_init() -> None:
    """What Inductor calls before it generates code, for whatever device."""
    from rustorch_device import _inductor

    _inductor.register()


# Memory.


def empty_cache() -> None:
    """Returns to the system the memory that no tensor holds."""
    torch._C._accelerator_emptyCache()


def memory_stats(device: _Device = None) -> "collections.OrderedDict[str, Any]":
    return torch.accelerator.memory_stats(_index(device))


def memory_allocated(device: _Device = None) -> int:
    """Bytes that tensors hold."""
    return memory_stats(device)["allocated_bytes.all.current"]


def max_memory_allocated(device: _Device = None) -> int:
    return memory_stats(device)["allocated_bytes.all.peak"]


def memory_reserved(device: _Device = None) -> int:
    """Bytes that the pool holds of the system, those of tensors and cached ones."""
    return memory_stats(device)["reserved_bytes.all.current"]


def max_memory_reserved(device: _Device = None) -> int:
    return memory_stats(device)["reserved_bytes.all.peak"]


def reset_peak_memory_stats(device: _Device = None) -> None:
    torch.accelerator.reset_peak_memory_stats(_index(device))


def reset_accumulated_memory_stats(device: _Device = None) -> None:
    torch.accelerator.reset_accumulated_memory_stats(_index(device))


def memory_summary(device: _Device = None, abbreviated: bool = False) -> str:
    """What tensors and the pool hold, in MiB: now, at most, and in all. `abbreviated` leaves out the counts."""
    stats = memory_stats(device)
    names = ("allocated_bytes", "reserved_bytes", *(() if abbreviated else ("allocation", "segment")))
    lines = [f"{'rustorch memory':<20}{'now':>14}{'peak':>14}{'taken':>14}{'freed':>14}"]
    for name in names:
        values = [stats.get(f"{name}.all.{kind}", 0) for kind in ("current", "peak", "allocated", "freed")]
        is_bytes = name.endswith("_bytes")
        cells = [f"{value / 2**20:>14,.2f}" if is_bytes else f"{value:>14,}" for value in values]
        lines.append(f"{name.removesuffix('_bytes') + (' (MiB)' if is_bytes else 's'):<20}{''.join(cells)}")
    return "\n".join(lines)


def mem_get_info(device: _Device = None) -> tuple[int, int]:
    """Free and total bytes of the host."""
    return torch.accelerator.get_memory_info(_index(device))


# The fallback.


def fallback_counts() -> dict[str, int]:
    """How often each op ran on PyTorch's CPU kernel for want of one in Rust."""
    return _C.fallback_counts()


def reset_fallback_counts() -> None:
    _C.reset_fallback_counts()


def set_fallback_policy(policy: str) -> str:
    """Sets what a fallback does, "warn", "error" or "silent"; gives what it did before."""
    before = _C.fallback_policy()
    _C.set_fallback_policy(policy)
    return before


def __dir__() -> list[str]:
    return __all__
