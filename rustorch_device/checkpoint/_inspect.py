"""What is in a checkpoint, as values and as a table."""

import os
from dataclasses import dataclass
from typing import Any

from rustorch_device.checkpoint._tensors import Tensors


@dataclass(frozen=True)
class TensorInfo:
    """A tensor in a file. `dtype` is PyTorch's; `strides` are None for one that lay dense and alone;
    `crc32` is None in files of other programs."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    device: str
    strides: tuple[int, ...] | None
    crc32: int | None


@dataclass(frozen=True)
class Inspection:
    """A checkpoint without its tensors' bytes. `parts` are what `load` can take from it; `version` is
    "0.0" for a file of another program; `metadata` are what such programs noted."""

    files: tuple[str, ...]
    bytes: int
    version: str
    writer: str
    parts: tuple[str, ...]
    step: Any
    metadata: dict[str, str]
    tensors: tuple[TensorInfo, ...]

    def __str__(self) -> str:
        lines = [f"{file}" for file in self.files]
        held = sum(tensor.bytes for tensor in self.tensors)
        lines.append(f"{len(self.tensors)} tensors, {_readable(held)} of {_readable(self.bytes)}")
        lines.append(f"format {self.version}, written by {self.writer}" if self.writer else "plain safetensors")
        if self.parts:
            lines.append("parts: " + ", ".join(self.parts))
        if self.step is not None:
            lines.append(f"step: {self.step}")
        lines.extend(f"{key}: {value}" for key, value in self.metadata.items())
        rows: list[tuple[str, ...]] = [("name", "type", "shape", "bytes", "device", "strides", "crc32")]
        for tensor in self.tensors:
            crc32 = "" if tensor.crc32 is None else f"{tensor.crc32:08x}"
            strides = "" if tensor.strides is None else str(list(tensor.strides))
            shape = str(list(tensor.shape))
            rows.append((tensor.name, tensor.dtype, shape, f"{tensor.bytes:,}", tensor.device, strides, crc32))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (
                cell.rjust(width) if place == 3 else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)


def _readable(count: float) -> str:
    units = iter(("KiB", "MiB", "GiB", "TiB"))
    unit = "B"
    while count >= 1024 and (larger := next(units, None)):
        count, unit = count / 1024, larger
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"


def inspection(path: "str | os.PathLike[str]", tensors: Tensors, document: dict[str, Any]) -> Inspection:
    metadata = tensors.file.metadata
    files = tuple(tensors.file.files)
    # "model_versions" belongs to the model, and the values that are None were not given.
    no_parts = ("model_versions", "step")
    parts = tuple(part for part, value in document.items() if part not in no_parts and value is not None)
    infos = tuple(
        TensorInfo(
            name,
            str(tensors.dtype(name)).removeprefix("torch."),
            tensors.shape(name),
            stored.bytes,
            tensors.notes.get(name, {}).get("device", "cpu"),
            None if stored.layout is None else tuple(stored.layout[2]),
            stored.crc32,
        )
        for name, stored in tensors.stored.items()
    )
    return Inspection(
        files,
        sum(os.path.getsize(file) for file in files),
        tensors.file.version,
        tensors.file.writer,
        parts,
        document.get("step"),
        dict(zip(metadata[::2], metadata[1::2], strict=True)),
        infos,
    )
