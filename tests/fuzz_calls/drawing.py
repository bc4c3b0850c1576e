"""Arguments drawn by their types in a schema, or exchanged in a call that was made before."""

import random
from typing import Any

import torch
from torch.utils._pytree import tree_map

from fuzz_calls.recording import Call, OnDevice

DTYPES = [
    torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int64, torch.int32,
    torch.uint8, torch.bool, torch.int8, torch.int16, torch.uint16, torch.complex64,
]  # fmt: skip
INTS = [
    0, 1, 2, 3, 5, -1, -2, -3, 7, 16, 100, 1 << 16, 1 << 31, 1 << 32, 1 << 62, (1 << 63) - 1, -(1 << 31), -(1 << 63),
]  # fmt: skip
FLOATS = [0.0, 1.0, -1.0, 0.5, 2.0, 1e-30, 1e30, 1e308, float("inf"), -float("inf"), float("nan")]
WORDS = [
    "mean", "sum", "none", "linear", "reflect", "constant", "floor", "trunc", "amax", "prod", "ij", "tanh", "", "x",
]  # fmt: skip


class Drawer:
    """Draws arguments by their types in a schema."""

    def __init__(self, random_: random.Random) -> None:
        self.random = random_

    def chance(self, of: float) -> bool:
        return self.random.random() < of

    def tensor(self) -> torch.Tensor | None:
        if self.chance(0.06):
            return None
        rank = self.random.choice([0, 1, 1, 2, 2, 3, 4, 5])
        shape = [self.random.choice([0, 1, 1, 2, 3, 3, 4, 5, 7]) for _ in range(rank)]
        return self.values(shape, self.random.choice(DTYPES))

    def values(self, shape: list[int], dtype: torch.dtype) -> torch.Tensor:
        if dtype.is_floating_point or dtype.is_complex:
            drawn = torch.randn(shape, dtype=torch.float64)
            if self.chance(0.2) and drawn.numel():
                drawn.view(-1)[self.random.randrange(drawn.numel())] = self.random.choice(FLOATS)
            tensor = drawn.to(dtype)
        else:
            tensor = torch.randint(0, 3, shape).to(dtype)
            if self.chance(0.3) and tensor.numel() and dtype in (torch.int64, torch.int32):
                large = self.random.choice(
                    [-1, 100, 2**31 - 1, -(2**31)] + ([2**62, -(2**63)] if dtype.itemsize > 4 else [])
                )
                tensor.view(-1)[self.random.randrange(tensor.numel())] = large
        return tensor if self.chance(0.04) else tensor.to("rustorch")

    def changed(self, tensor: torch.Tensor) -> torch.Tensor | None:
        kind = self.random.randrange(10)
        if kind == 0:
            return None
        if kind == 1:
            return tensor.to(self.random.choice(DTYPES))
        if kind == 2 and tensor.dim():
            return tensor.select(self.random.randrange(tensor.dim()), 0) if 0 not in tensor.shape else tensor.flatten()
        if kind == 3:
            return tensor.unsqueeze(self.random.randrange(tensor.dim() + 1))
        if kind == 4 and tensor.dim():
            return tensor.narrow(self.random.randrange(tensor.dim()), 0, 0)
        if kind == 5 and tensor.dim():
            return tensor.transpose(0, -1)
        if kind == 6 and tensor.dim():
            dim = self.random.randrange(tensor.dim())
            return torch.cat([tensor, tensor], dim)
        if kind == 7:
            return self.values(list(tensor.shape), tensor.dtype)
        if kind == 8 and tensor.dim() and 0 not in tensor.shape:
            return tensor.narrow(self.random.randrange(tensor.dim()), 0, 1).expand_as(tensor)
        return self.tensor()

    def value(self, kind: torch._C.Type, before: Any = None) -> Any:
        name = kind.kind()
        if name == "OptionalType":
            return None if self.chance(0.4) else self.value(kind.getElementType(), before)
        if name == "TensorType":
            return self.changed(before) if isinstance(before, torch.Tensor) and self.chance(0.8) else self.tensor()
        if name == "ListType":
            return self.sequence(kind.getElementType(), before)
        if name in ("IntType", "SymIntType"):
            return self.random.choice(INTS[: self.random.choice([7, len(INTS)])])
        if name in ("NumberType", "SymFloatType", "FloatType"):
            return self.random.choice([*FLOATS, *(INTS if name == "NumberType" else [])])
        if name == "BoolType":
            return self.chance(0.5)
        if name == "StringType":
            return self.random.choice(WORDS)
        return before

    def sequence(self, kind: torch._C.Type, before: Any) -> Any:
        way = self.random.randrange(6)
        if not isinstance(before, list | tuple) or way == 0:
            return [self.value(kind) for _ in range(self.random.choice([0, 1, 1, 2, 2, 3, 4, 6]))]
        items = list(before)
        if way == 1:
            return []
        if way == 2:
            return items[:-1]
        if way == 3:
            return [*items, self.value(kind, items[-1] if items else None)]
        for at in range(len(items)):
            if way == 4 or self.chance(1 / len(items)):
                items[at] = self.value(kind, items[at])
        return items

    def call(self, overload: Any, recorded: list[Call]) -> Call:
        """A recorded call with arguments exchanged, or one of drawn arguments alone."""
        arguments = overload._schema.arguments
        start = self.random.choice(recorded) if recorded and self.chance(0.93) else None
        args, kwargs = tree_map(_to_device, start) if start else ((), {})
        given = dict(zip((argument.name for argument in arguments), args, strict=False)) | kwargs
        exchanged = self.random.choice([0, 1, 1, 1, 2, 2, 3])
        chosen = {argument.name for argument in self.random.sample(arguments, min(exchanged, len(arguments)))}
        for argument in arguments:
            if start is None or argument.name in chosen:
                given[argument.name] = self.value(argument.real_type, given.get(argument.name))
                if argument.has_default_value() and self.chance(0.3):
                    del given[argument.name]
        required = [argument for argument in arguments if argument.name in given]
        positional = []
        for argument in required:
            if argument.kwarg_only or len(positional) < arguments.index(argument):
                break
            positional.append(given.pop(argument.name))
        return tuple(positional), given


def _to_device(value: Any) -> Any:
    return value.tensor.to("rustorch") if isinstance(value, OnDevice) else value


def described(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        where = "" if value.device.type == "rustorch" else f" on {value.device}"
        strides = "" if value.is_contiguous() else f" by {list(value.stride())}"
        small = f" {value.flatten().tolist()}" if value.numel() <= 6 and not value.dtype.is_floating_point else ""
        return f"{str(value.dtype)[6:]}{list(value.shape)}{strides}{where}{small}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(described, value))}]"
    if isinstance(value, dict):
        return ", ".join(f"{key}={described(item)}" for key, item in value.items())
    return repr(value)
