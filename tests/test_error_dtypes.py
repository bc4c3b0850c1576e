"""Errors name the dtypes that tensors have, also of kernels that move elements by their size alone."""

import re

import pytest
import torch

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.float8_e4m3fn, torch.uint16, torch.bool]


def tensor(dtype: torch.dtype, *sizes: int) -> torch.Tensor:
    return torch.zeros(sizes, dtype=dtype).to("rustorch")


def index(*values: int) -> torch.Tensor:
    return torch.tensor(values).to("rustorch")


def shrunk(dtype: torch.dtype) -> torch.Tensor:
    """A tensor whose storage no longer holds it."""
    short = tensor(dtype, 4, 2)
    short.untyped_storage().resize_(1)
    return short


CALLS = {
    "index_select": lambda dtype: tensor(dtype, 3, 2).index_select(0, index(5)),
    "embedding": lambda dtype: torch.nn.functional.embedding(index(5), tensor(dtype, 3, 2)),
    "gather": lambda dtype: tensor(dtype, 3, 2).gather(0, index(7, 7)[None]),
    "scatter": lambda dtype: tensor(dtype, 3, 2).scatter(0, index(7, 7)[None], tensor(dtype, 1, 2)),
    "index": lambda dtype: tensor(dtype, 3, 2)[index(5)],
    "index_put": lambda dtype: tensor(dtype, 3, 2).index_put((index(5),), tensor(dtype, 1, 2)),
    "index_copy": lambda dtype: tensor(dtype, 3, 2).index_copy(0, index(5), tensor(dtype, 1, 2)),
    "take": lambda dtype: tensor(dtype, 3, 2).take(index(9)),
    "cat": lambda dtype: torch.cat([tensor(dtype, 3, 2), shrunk(dtype)]),
    "flip": lambda dtype: shrunk(dtype).flip(0),
    "copy": lambda dtype: tensor(dtype, 1).expand(3).copy_(tensor(dtype, 3)),
    "clone": lambda dtype: shrunk(dtype).clone(),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("call", CALLS)
def test_a_refusal_names_the_tensors_own_dtype(call, dtype):
    with pytest.raises((IndexError, RuntimeError)) as refused:
        CALLS[call](dtype)
    operands = re.search(r"\(in \w+\((.*)\)\)$", str(refused.value))
    assert operands is not None, f"no operands in: {refused.value}"
    named = set(re.findall(r"([a-z]\w+)\[", operands[1]))
    assert named - {"int64"} == {str(dtype).removeprefix("torch.")}, f"{call}: {refused.value}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_copy_between_dtypes_names_both(dtype):
    with pytest.raises(RuntimeError) as refused:
        shrunk(dtype).to(torch.float64)
    assert f"{str(dtype).removeprefix('torch.')}[4, 2]" in str(refused.value) and "float64[4, 2]" in str(refused.value)
