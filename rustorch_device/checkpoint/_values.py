"""Python values as JSON and back, unchanged: what JSON lacks is an object whose one key is a tag.

No pickle: reading makes values of the types below and nothing else, whatever the file says.
"""

import base64
import math
import struct
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

#: Gives a tensor its name in the file; the second argument is a name to begin with.
NameTensor = Callable[[torch.Tensor, str], str]
#: Gives the tensor of a name.
FindTensor = Callable[[str], torch.Tensor]

#: JSON readers, Rust's among them, follow about twice as many levels of JSON.
MOST_LEVELS = 60

DTYPES = {str(value).removeprefix("torch."): value for value in vars(torch).values() if isinstance(value, torch.dtype)}


class Unsound(Exception):
    """A text that no release has written."""


def encode(value: Any, where: str, name_tensor: NameTensor, level: int = 0) -> Any:
    """`value` as what `json.dumps` takes. `where` names it in errors, and begins its tensors' names.

    Takes None, bool, int, float, str, bytes, complex, list, tuple, set, frozenset, dict, OrderedDict,
    Counter, deque, torch.Size, torch.dtype, torch.device, tensors, parameters and NumPy arrays, of
    exactly these types. Raises TypeError for others, and ValueError for what is too deep.
    """
    if level > MOST_LEVELS:
        raise ValueError(f"{where} is nested deeper than {MOST_LEVELS} levels, or holds itself")
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{where}: {value!r} is no text that UTF-8 can hold") from None
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**63 else {"$int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": struct.pack(">d", value).hex()}
    if isinstance(value, torch.Tensor):
        if isinstance(value, torch.nn.Parameter):
            return {"$parameter": name_tensor(value, where), "requires_grad": value.requires_grad}
        return {"$tensor": name_tensor(value, where)}

    def each(items: Iterable[Any]) -> list[Any]:
        return [encode(item, f"{where}.{at}", name_tensor, level + 1) for at, item in enumerate(items)]

    def pairs(items: dict[Any, Any]) -> list[list[Any]]:
        names = [encode(key, f"{where}'s key", name_tensor, level + 1) for key in items]
        values = [encode(item, f"{where}.{key}", name_tensor, level + 1) for key, item in items.items()]
        return [[name, value] for name, value in zip(names, values, strict=True)]

    if kind is list:
        return each(value)
    if kind is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return dict(pairs(value))
        return {"$dict": pairs(value)}
    if kind in _SEQUENCES:
        return {_SEQUENCES[kind]: each(value)}
    if kind in _MAPPINGS:
        return {_MAPPINGS[kind]: pairs(value)}
    if kind is defaultdict and value.default_factory in _FACTORIES:
        return {"$defaultdict": [_FACTORIES[value.default_factory], pairs(value)]}
    if kind is deque:
        return {"$deque": [each(value), value.maxlen]}
    if kind is bytes:
        return {"$bytes": base64.b64encode(value).decode()}
    if kind is complex:
        return {"$complex": [encode(part, where, name_tensor) for part in (value.real, value.imag)]}
    if kind is torch.dtype:
        return {"$dtype": str(value).removeprefix("torch.")}
    if kind is torch.device:
        return {"$device": str(value)}
    numpy = sys.modules.get("numpy")
    if numpy is not None and (kind is numpy.ndarray or isinstance(value, numpy.generic)):
        return {"$numpy" if kind is numpy.ndarray else "$scalar": name_tensor(_from_numpy(value, where), where)}
    raise TypeError(
        f"{where} is a {kind.__module__}.{kind.__qualname__}, which a checkpoint cannot hold: it holds numbers, text, "
        "bytes, lists, tuples, sets, dictionaries and tensors. Save what it is made of instead"
    )


_SEQUENCES: dict[type, str] = {tuple: "$tuple", set: "$set", frozenset: "$frozenset", torch.Size: "$size"}
_MAPPINGS: dict[type, str] = {OrderedDict: "$ordered", Counter: "$counter"}
_FACTORIES = {None: None, dict: "dict", list: "list", set: "set", int: "int", float: "float"}


def _from_numpy(value: Any, where: str) -> torch.Tensor:
    numpy = sys.modules["numpy"]
    try:
        # A copy in C order and the machine's byte order: torch takes no others.
        return torch.from_numpy(numpy.array(value, order="C").astype(value.dtype.newbyteorder("=")))
    except TypeError:
        raise TypeError(f"{where} is a NumPy array of {value.dtype}, which no tensor can hold") from None


def decode(value: Any, find_tensor: FindTensor) -> Any:
    """The value that `encode` was given. Raises Unsound for what `encode` does not give."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [decode(item, find_tensor) for item in value]
    if not any(key.startswith("$") for key in value):
        return {key: decode(item, find_tensor) for key, item in value.items()}
    try:
        if "$parameter" in value:
            return torch.nn.Parameter(find_tensor(value["$parameter"]), requires_grad=value["requires_grad"])
        ((tag, inner),) = value.items()
        return _UNTAG[tag](inner, find_tensor)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, struct.error) as error:
        if isinstance(error, RecursionError):
            raise
        raise Unsound(f"{str(value)[:80]} is no value that a checkpoint holds: {error}") from error


def references(value: Any) -> Iterator[str]:
    """The names of the tensors that decoding `value` asks for."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in ("$tensor", "$parameter", "$numpy", "$scalar"):
                yield item
            else:
                yield from references(item)


def _items(value: Any, find_tensor: FindTensor) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("expected a list")
    return [decode(item, find_tensor) for item in value]


def _pairs(value: Any, find_tensor: FindTensor) -> list[tuple[Any, Any]]:
    return [(key, item) for key, item in _items(value, find_tensor)]


def _defaultdict(value: Any, find_tensor: FindTensor) -> Any:
    factory, pairs = value
    factories = {name: kind for kind, name in _FACTORIES.items()}
    return defaultdict(factories[factory], _pairs(pairs, find_tensor))


def _deque(value: Any, find_tensor: FindTensor) -> Any:
    items, length = value
    return deque(_items(items, find_tensor), length)


def _numpy(value: Any, find_tensor: FindTensor) -> Any:
    # A copy, so that it owns its memory, as other arrays do.
    return find_tensor(value).numpy().copy()


_UNTAG: dict[str, Callable[[Any, FindTensor], Any]] = {
    "$int": lambda value, _: int(value, 16),
    "$float": lambda value, _: struct.unpack(">d", bytes.fromhex(value))[0],
    "$tensor": lambda value, find_tensor: find_tensor(value),
    "$dict": lambda value, find_tensor: dict(_pairs(value, find_tensor)),
    "$ordered": lambda value, find_tensor: OrderedDict(_pairs(value, find_tensor)),
    "$counter": lambda value, find_tensor: Counter(dict(_pairs(value, find_tensor))),
    "$tuple": lambda value, find_tensor: tuple(_items(value, find_tensor)),
    "$set": lambda value, find_tensor: set(_items(value, find_tensor)),
    "$frozenset": lambda value, find_tensor: frozenset(_items(value, find_tensor)),
    "$size": lambda value, find_tensor: torch.Size(_items(value, find_tensor)),
    "$defaultdict": _defaultdict,
    "$deque": _deque,
    "$bytes": lambda value, _: base64.b64decode(value, validate=True),
    "$complex": lambda value, find_tensor: complex(*_items(value, find_tensor)),
    "$dtype": lambda value, _: DTYPES[value],
    "$device": lambda value, _: torch.device(value),
    "$numpy": _numpy,
    "$scalar": lambda value, find_tensor: _numpy(value, find_tensor)[()],
}
