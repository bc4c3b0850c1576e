"""Checkpoints: all that training needs to go on, in one file that safetensors' readers open.

`save` and `load` take models, optimizers, schedulers, gradient scalers and the states of the
generators; `save_tensors` and `load_tensors` plain dictionaries; `inspect` shows what is in a file,
`verify` compares all of it with its checksums. `docs/checkpoints.md` has the format and what is
promised of it. From a shell: `python -m rustorch_device.checkpoint inspect FILE`.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from rustorch_device import _C
from rustorch_device import __version__ as _version
from rustorch_device.checkpoint._inspect import Inspection, TensorInfo, inspection
from rustorch_device.checkpoint._tensors import CheckpointError, Collector, Tensors
from rustorch_device.checkpoint._training import (
    ModelLoad,
    OptimizerLoad,
    generator_states,
    model_state,
    optimizer_devices,
    optimizer_state,
    restore_generators,
)
from rustorch_device.checkpoint._values import Unsound, decode, encode, references

__all__ = [
    "CheckpointError",
    "Inspection",
    "Loaded",
    "TensorInfo",
    "inspect",
    "load",
    "load_tensors",
    "save",
    "save_tensors",
    "verify",
]

Path = str | os.PathLike[str]
Device = torch.device | str | None

#: The parts of a file that are objects with a `state_dict`, and no more is known of them.
_OBJECTS = ("scheduler", "scaler")


@dataclass
class Loaded:
    """What `load` found: the step and the extra values as they were saved, and, of the model, names
    that the file lacks (`missing`) or has too many (`unexpected`), which only `strict=False` allows."""

    step: int | None = None
    extra: Any = None
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)


def save(
    path: Path,
    model: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
    scaler: Any = None,
    rng: bool = True,
    step: int | None = None,
    extra: Any = None,
) -> None:
    """Writes a checkpoint to `path`, which at any moment holds the old one or the new one, whole.

    `model` may be compiled or data-parallel; its tensors are named as in its `state_dict`. The
    optimizer's are named `optim.<parameter>.<key>`. `scheduler` and `scaler` are anything with a
    `state_dict`. `rng` keeps the generators of cpu, rustorch, Python and NumPy. `extra` is any value
    made of numbers, text, lists, tuples, sets, dictionaries, tensors and arrays.

    Raises TypeError for values that a checkpoint cannot hold, saying which, and OSError where the file
    cannot be written. The old file is then still there.
    """
    _expect_path_first(path)
    if model is not None and not hasattr(model, "state_dict"):
        raise TypeError(
            f"save: expected `model` to be a module, got {type(model).__name__}. A dictionary of tensors, such as a "
            "state_dict, is saved by save_tensors(path, tensors)."
        )
    tensors = Collector()
    document: dict[str, Any] = {}
    if model is not None:
        values, versions = model_state(model)
        document["model"] = {name: encode(value, name, tensors.name) for name, value in values.items()}
        document["model_versions"] = encode(versions, "the model's versions", tensors.name)
    if optimizer is not None:
        document["optimizer"] = encode(optimizer_state(optimizer, model), "optim", _without_state(tensors))
    for name, value in zip(_OBJECTS, (scheduler, scaler), strict=True):
        if value is not None:
            document[name] = encode(value.state_dict(), name, tensors.name)
    if rng:
        document["rng"] = encode(generator_states(), "rng", tensors.name)
    document["step"] = encode(step, "step", tensors.name)
    document["extra"] = encode(extra, "extra", tensors.name)
    _write(path, tensors, document)


def _expect_path_first(path: Any) -> None:
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"save: expected a path first, got {type(path).__name__}; torch.save alone takes it last")


def _without_state(tensors: Collector) -> Any:
    """Names tensors by the parameter and the key, `optim.layer.weight.exp_avg`."""
    return lambda tensor, where: tensors.name(tensor, where.replace("optim.state.", "optim.", 1))


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes a dictionary of tensors under their own names, as safely as `save`.

    Tensors that share memory are written once and share it when they are loaded. Raises TypeError for
    keys that are no strings, and for sparse, quantized and meta tensors.
    """
    _expect_path_first(path)
    if not isinstance(tensors, Mapping):
        raise TypeError(f"save_tensors: expected a dictionary of tensors, got {type(tensors).__name__}")
    collector = Collector()
    for name, tensor in tensors.items():
        if type(name) is not str or not isinstance(tensor, torch.Tensor):
            raise TypeError(f"expected tensors by their names, got {name!r}: {type(tensor).__name__}")
    dictionary = [[name, collector.name(tensor, name)] for name, tensor in tensors.items()]
    _write(path, collector, {"dictionary": dictionary})


def _write(path: Path, tensors: Collector, document: dict[str, Any]) -> None:
    entries = tensors.entries()
    text = json.dumps({"notes": tensors.notes, **document}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    writer = f"rustorch {_version}, torch {torch.__version__}"
    _C.checkpoint_write(os.fsencode(path), writer, entries, text)


def load(
    path: Path,
    model: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
    scaler: Any = None,
    rng: bool | None = None,
    device: Device = None,
    mmap: bool = False,
    strict: bool = True,
) -> Loaded:
    """Reads a checkpoint of `save`, or a model's weights of other programs: a safetensors file, an index
    of several, or a folder that holds either under Hugging Face's names.

    The model, optimizer, scheduler and scaler that are given take their state on; their tensors stay on
    their devices. `rng` puts the generators back, where the file has them; by default, when an optimizer is
    given, so that training goes on. Tensors of `extra` come back to `device`, or to where they were. With
    `mmap`, the model's tensors become memory that is mapped from the file: nothing is read until it is used,
    nor compared with its checksum, and writes stay in this process.

    With `strict`, everything that is asked for must be in the file, and the model's names must be the
    file's. Raises CheckpointError where that is not so, where shapes differ, or where bytes are not
    those that were written, before anything is changed; OSError where the file cannot be read.
    """
    tensors = Tensors.open(path, mapped=mmap)
    document = _document(tensors)
    loads: list[Any] = []
    result = Loaded()
    with _sound(path):
        if model is not None and _has(document, "model", path, strict):
            loaded = _model_load(model, tensors, document, strict)
            result.missing, result.unexpected = loaded.missing, loaded.unexpected
            loads.append(loaded.write)
        if optimizer is not None and _has(document, "optimizer", path, strict):
            loads.append(_optimizer_load(optimizer, model, tensors, document["optimizer"]).write)
        for name, taker in zip(_OBJECTS, (scheduler, scaler), strict=True):
            if taker is not None and _has(document, name, path, strict):
                loads.append(_taking(taker, _decoded(tensors, document[name])))
        result.step = _decoded(tensors, document.get("step"))
        result.extra = _decoded(tensors, document.get("extra"), device)
        wanted = optimizer is not None if rng is None else rng
        states = _decoded(tensors, document["rng"], "cpu") if wanted and "rng" in document else None
    for write in loads:
        write()
    if states is not None:
        restore_generators(states)
    return result


def _taking(taker: Any, state: Any) -> Any:
    return lambda: taker.load_state_dict(state)


def _has(document: dict[str, Any], part: str, path: Path, strict: bool) -> bool:
    if part not in document and strict:
        raise CheckpointError(f"{os.fspath(path)} holds no {part}")
    return part in document


def _model_load(model: nn.Module, tensors: Tensors, document: dict[str, Any], strict: bool) -> ModelLoad:
    values = document["model"]
    names = {name: value["$tensor"] for name, value in values.items() if _is_tensor(value)}
    others = {name: _decoded(tensors, value, "cpu") for name, value in values.items() if name not in names}
    versions = document.get("model_versions")
    versions = None if versions is None else _decoded(tensors, versions)
    return ModelLoad(model, tensors, names, others, versions, strict)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, dict) and "$tensor" in value


def _optimizer_load(
    optimizer: torch.optim.Optimizer, model: nn.Module | None, tensors: Tensors, saved: dict[str, Any]
) -> OptimizerLoad:
    devices = optimizer_devices(optimizer, model, saved)
    wanted: dict[torch.device, list[str]] = {}
    for name, values in saved["state"].items():
        for tensor in references(values):
            # `load_state_dict` moves the counts of steps to where the optimizer wants them.
            count = tensor.startswith(f"optim.{name}.step")
            wanted.setdefault(torch.device("cpu") if count else devices[name], []).append(tensor)
    # Together, so that many small ones are one reading.
    found = {name: value for where, names in wanted.items() for name, value in tensors.get(names, where).items()}
    decoded = {
        "class": saved["class"],
        "groups": _decoded(tensors, saved["groups"]),
        "state": {name: decode(values, found.__getitem__) for name, values in saved["state"].items()},
        "others": _decoded(tensors, saved["others"]),
    }
    return OptimizerLoad(optimizer, model, decoded)


def load_tensors(
    path: Path, names: Iterable[str] | None = None, device: Device = None, mmap: bool = False
) -> dict[str, torch.Tensor]:
    """A dictionary of tensors from a file of `save_tensors`, `save`, or another program.

    `names` picks some. They come to `device`, or to where they were saved from, with their strides and
    shared memory. With `mmap` they are memory mapped from the file: nothing is read until it is used,
    nor compared with its checksum (`verify` does that), and writes stay in this process. Raises
    CheckpointError for unsound files, and KeyError for a name that is not there.
    """
    tensors = Tensors.open(path, mapped=mmap)
    document = _document(tensors)
    with _sound(path):
        stored = {name: name for name in tensors.stored}
        if "dictionary" in document:
            stored = dict(document["dictionary"])
    wanted = list(stored if names is None else names)
    if absent := [name for name in wanted if name not in stored]:
        raise KeyError(f"{os.fspath(path)} has no tensor {', '.join(map(repr, absent))}")
    with _sound(path):
        found = tensors.get([stored[name] for name in wanted], device)
    return {name: found[stored[name]] for name in wanted}


def inspect(path: Path) -> Inspection:
    """What is in a file: its version and writer, its tensors, its parts. Reads the header alone, however
    large the file is. As text it is a table."""
    tensors = Tensors.open(path)
    return inspection(path, tensors, _document(tensors))


def verify(path: Path) -> int:
    """Compares every tensor's bytes with its checksum; gives how many have one, which those of other
    programs have not. Raises CheckpointError, naming the tensor, where they differ."""
    tensors = Tensors.open(path)
    tensors.file.verify([stored.place for stored in tensors.stored.values()])
    return sum(stored.crc32 is not None for stored in tensors.stored.values())


# The document: what a file says besides its tensors.


def _document(tensors: Tensors) -> dict[str, Any]:
    """The file's document; of a file of another program, that its tensors are a model's."""
    text = tensors.file.state
    if not text:
        return {"model": {name: {"$tensor": name} for name in tensors.stored}}
    with _sound(tensors.file.files[0]):
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
        if not isinstance(document, dict):
            raise Unsound("its state is no object")
        notes = document.pop("notes")
        if not all(isinstance(note.get(key, ""), str) for note in notes.values() for key in ("dtype", "device")):
            raise Unsound("its notes on tensors are unsound")
        tensors.notes = notes
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unsound("its state has a key twice")
    return found


def _no_constant(name: str) -> Any:
    raise Unsound(f"its state holds {name}")


def _decoded(tensors: Tensors, value: Any, device: Device = None) -> Any:
    return decode(value, tensors.get(list(references(value)), device).__getitem__)


@contextlib.contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Makes what goes wrong with a file's own text a CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except (Unsound, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{os.fspath(path)} is not a sound checkpoint: {error}") from error
