"""Tensors on their way to a file and back: which type they are stored as, and how they lay in memory."""

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch

from rustorch_device import _C
from rustorch_device.checkpoint._values import DTYPES, Unsound

CheckpointError = _C.CheckpointError

#: The file's name of each type that safetensors has.
STORED = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e8m0fnu: "F8_E8M0",
    torch.int16: "I16",
    torch.uint16: "U16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.uint32: "U32",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.uint64: "U64",
    torch.complex64: "C64",
}
LOADED = {name: dtype for dtype, name in STORED.items()}
#: Types that safetensors lacks: stored as pairs of real numbers, or as bytes.
PAIRS = {torch.complex128: torch.float64, torch.complex32: torch.float16}
BYTES = (torch.float8_e5m2fnuz, torch.float8_e4m3fnuz, torch.float4_e2m1fn_x2)

#: Tensors of one storage lie at multiples of this from its start.
ALIGNMENT = 16
#: Memory of a storage, as a multiple of the bytes of the tensors in it, that layouts may ask for
#: (`MOST_SPREAD` of rust/checkpoint).
MOST_SPREAD = 64


#: What a file of one process cannot take, and what to do.
SPREAD = (
    "is a DTensor, of which each process holds a part: torch.distributed.checkpoint saves and loads it, or "
    "full_tensor() gives every process all of it"
)


def is_spread(tensor: torch.Tensor) -> bool:
    """Whether it is a DTensor. Who never imported torch.distributed has none."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def to_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """The same elements on the CPU, uncopied where they are in host memory."""
    if tensor.device.type == "rustorch":
        return _C.alias(tensor)
    return tensor.cpu()


class _Held(NamedTuple):
    """A tensor as it is stored, on the CPU, and where it lies in its storage."""

    tensor: torch.Tensor
    start: int

    @property
    def end(self) -> int:
        if self.tensor.numel() == 0:
            return self.start
        last = sum((size - 1) * stride for size, stride in zip(self.tensor.shape, self.tensor.stride(), strict=True))
        return self.start + (last + 1) * self.tensor.element_size()


class Collector:
    """The tensors of a save: each distinct one once, under a name of its own."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._names: dict[tuple[Any, ...], str] = {}
        self._storages: dict[int, list[str]] = {}
        # What the file cannot say of a tensor: its own type, and the device that it was on.
        self.notes: dict[str, dict[str, str]] = {}
        # Storages are told apart by their addresses, which hold while they are alive.
        self._alive: list[torch.Tensor] = []

    def name(self, tensor: torch.Tensor, wish: str) -> str:
        """The name that `tensor` is stored under: `wish`, if that is free and the tensor is not there yet.

        Raises TypeError for a sparse, quantized, nested or meta tensor, and for one that is spread over processes.
        """
        tensor = tensor.detach()
        if is_spread(tensor):
            raise TypeError(f"{wish} {SPREAD}")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.is_meta:
            kind = "quantized" if tensor.is_quantized else "meta" if tensor.is_meta else tensor.layout
            raise TypeError(f"{wish} is a {kind} tensor; a checkpoint holds dense tensors with values")
        _C.check_storage(tensor)
        storage = tensor.untyped_storage()
        geometry = (tensor.storage_offset(), tensor.shape, tensor.stride())
        key = (storage._cdata, tensor.dtype, geometry, tensor.is_conj(), tensor.is_neg())
        if key in self._names and tensor.numel():
            return self._names[key]
        name, count = wish, 1
        while name in self._held or name == "__metadata__":
            count += 1
            name = f"{wish}~{count}"
        self._alive.append(tensor)
        self._names[key] = name
        note = {}
        if tensor.device.type != "cpu":
            note["device"] = str(tensor.device)
        held = to_cpu(tensor).resolve_conj().resolve_neg()
        if held.dtype not in STORED:
            note["dtype"] = str(held.dtype).removeprefix("torch.")
            held = _as_stored(held, wish)
        if held.dtype == torch.bool and held.numel() and held.view(torch.uint8).max() > 1:
            # Memory that was never written may hold such bytes; in a file only 0 and 1 are booleans.
            held = held.view(torch.uint8) != 0
        if note:
            self.notes[name] = note
        shared = to_cpu(tensor).untyped_storage().data_ptr() == held.untyped_storage().data_ptr()
        self._held[name] = _Held(held, int(held.storage_offset()) * held.element_size())
        if shared and held.numel():
            self._storages.setdefault(storage._cdata, []).append(name)
        return name

    def entries(self) -> list[tuple[str, str, torch.Tensor, tuple[int, int, tuple[int, ...]] | None]]:
        """What `_C.checkpoint_write` takes: name, type, dense tensor, layout."""
        layouts: dict[str, tuple[int, int, tuple[int, ...]]] = {}
        number = 0
        for names in self._storages.values():
            held = [self._held[name] for name in names]
            base = min(one.start for one in held) // ALIGNMENT * ALIGNMENT
            if len(names) > 1 and max(one.end for one in held) - base <= MOST_SPREAD * sum(map(_bytes, held)):
                for name, one in zip(names, held, strict=True):
                    layouts[name] = (number, one.start - base, one.tensor.stride())
                number += 1
                continue
            for name, one in zip(names, held, strict=True):
                # A lone tensor is moved to the start of its storage.
                if not one.tensor.is_contiguous() and one.end - one.start <= MOST_SPREAD * _bytes(one):
                    layouts[name] = (number, 0, one.tensor.stride())
                    number += 1
        return [
            (name, STORED[one.tensor.dtype], one.tensor.contiguous(), layouts.get(name))
            for name, one in self._held.items()
        ]


def _bytes(held: _Held) -> int:
    return held.tensor.numel() * held.tensor.element_size()


def _as_stored(tensor: torch.Tensor, where: str) -> torch.Tensor:
    if tensor.dtype in PAIRS:
        return torch.view_as_real(tensor)
    if tensor.dtype in BYTES:
        return tensor.view(torch.uint8)
    raise TypeError(f"{where} is a tensor of {tensor.dtype}, which a checkpoint cannot hold")


def _is_of_torch_save(path: "str | os.PathLike[str]") -> bool:
    """A zip archive, or a pickle of before there were such."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        start = file.read(4)
    return start == b"PK\x03\x04" or start[:2] == b"\x80\x02"


class Stored(NamedTuple):
    """A tensor in a file."""

    place: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    bytes: int
    #: Storage, offset in bytes, strides in elements; None for one that lay dense and alone.
    layout: tuple[int, int, list[int]] | None
    crc32: int | None


class Tensors:
    """The tensors of an open file, read when asked for, together."""

    def __init__(self, file: Any, mapped: bool = False) -> None:
        self.file = file
        self.mapped = mapped
        self.stored = {
            name: Stored(place, LOADED[dtype], tuple(shape), size, layout, crc32)
            for place, (name, dtype, shape, size, layout, crc32) in enumerate(file.tensors())
        }
        self.notes: Mapping[str, Mapping[str, str]] = {}
        self._found: dict[tuple[str, torch.device], torch.Tensor] = {}
        self._storages: dict[tuple[int, torch.device], torch.Tensor] = {}

    @classmethod
    def open(cls, path: "str | os.PathLike[str]", mapped: bool = False) -> "Tensors":
        try:
            return cls(_C.CheckpointFile(os.fsencode(path)), mapped)
        except CheckpointError as error:
            if _is_of_torch_save(path):
                raise CheckpointError(f"{os.fspath(path)} is a file of torch.save: read it by torch.load") from error
            raise

    def dtype(self, name: str) -> torch.dtype:
        """The type that the tensor had when it was saved."""
        note = self.notes.get(name, {}).get("dtype")
        return self.stored[name].dtype if note is None else DTYPES[note]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape that the tensor had when it was saved."""
        shape = self.stored[name].shape
        return shape[:-1] if self.dtype(name) in PAIRS else shape

    def device(self, name: str) -> torch.device:
        """The device that the tensor was on."""
        return torch.device(self.notes.get(name, {}).get("device", "cpu"))

    def get(self, names: Iterable[str], device: torch.device | str | None = None) -> dict[str, torch.Tensor]:
        """Tensors by their names, on `device` or where they were, with their strides and shared memory.

        A name that was asked for before gives the same tensor. Raises CheckpointError where the bytes
        are not those that were written; mapped tensors are not compared.
        """
        wanted = {name: torch.device(device) if device is not None else self.device(name) for name in names}
        reads: list[tuple[int, torch.Tensor]] = []
        spread: list[tuple[torch.Tensor, torch.Tensor]] = []
        made: dict[tuple[str, torch.device], torch.Tensor] = {}
        for name, where in wanted.items():
            if (name, where) in self._found:
                continue
            if name not in self.stored:
                raise Unsound(f"the file has no tensor '{name}'")
            made[name, where] = self._make(self.stored[name], where, reads, spread)
        if reads:
            self.file.read(reads, True)
        for view, dense in spread:
            _spread(view, dense)
        for (name, where), tensor in made.items():
            self._found[name, where] = self._as_saved(name, tensor, where)
        return {name: self._found[name, where] for name, where in wanted.items()}

    def _make(
        self,
        stored: Stored,
        device: torch.device,
        reads: list[tuple[int, torch.Tensor]],
        spread: list[tuple[torch.Tensor, torch.Tensor]],
    ) -> torch.Tensor:
        """A CPU tensor, or a rustorch one; its bytes arrive with `reads`, then `spread`."""
        host = device if device.type == "rustorch" else torch.device("cpu")
        if stored.layout is not None:
            number, offset, strides = stored.layout
            if (number, host) not in self._storages:
                size = self.file.storages()[number]
                self._storages[number, host] = torch.empty(size, dtype=torch.uint8, device=host)
            storage = to_cpu(self._storages[number, host]).untyped_storage()
            view = torch.empty(0, dtype=stored.dtype)
            view.set_(storage, offset // view.element_size(), stored.shape, strides)  # type: ignore[call-overload]
            dense = torch.empty(stored.shape, dtype=stored.dtype)
            reads.append((stored.place, dense))
            spread.append((view, dense))
            return view if host.type == "cpu" else _C.alias(view)
        # A mapped tensor is not looked at, so that a boolean could be neither true nor false.
        if self.mapped and stored.dtype != torch.bool and stored.bytes:
            mapped = self.file.mapped(stored.place)
            if mapped.data_ptr() % stored.dtype.itemsize == 0:
                mapped = mapped.view(stored.dtype).view(stored.shape)
                return mapped if host.type == "cpu" else _C.alias(mapped)
        dense = torch.empty(stored.shape, dtype=stored.dtype, device=host)
        reads.append((stored.place, dense))
        return dense

    def _as_saved(self, name: str, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        dtype = self.dtype(name)
        if dtype != tensor.dtype:
            host = to_cpu(tensor)
            host = torch.view_as_complex(host) if dtype in PAIRS else host.view(dtype)
            tensor = host if tensor.device.type == "cpu" else _C.alias(host)
        return tensor.to(device)


def _spread(view: torch.Tensor, dense: torch.Tensor) -> None:
    """Writes elements where they lay."""
    repeats = repeated(view)
    once(view, repeats).copy_(once(dense, repeats))


def repeated(tensor: torch.Tensor) -> list[int]:
    """The dimensions along which a tensor's elements are one and the same."""
    return [dim for dim in range(tensor.dim()) if tensor.stride(dim) == 0 and tensor.shape[dim] > 1]


def once(tensor: torch.Tensor, dims: list[int]) -> torch.Tensor:
    """The first of the elements along each of `dims`."""
    for dim in dims:
        tensor = tensor.narrow(dim, 0, 1)
    return tensor
