"""Random graphs: what the compiler makes of them gives the bits that eager gives on rustorch, and
numbers that are about as near to those of f64 as CPU eager's, whatever the inputs' float type.

A case is a list of small instructions over a pool of tensors that starts with the inputs; each
takes its operands from the pool by number and adds its result. Writes to inputs and to views of
them are part of the result.

`RUSTORCH_RANDOM_GRAPHS` says how many cases; 300 if it does not, 2,000 at night.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.testing._comparison import default_tolerances
from torch.utils._pytree import tree_map

from rustorch_device.backend import compile_graph

Tensors = list[torch.Tensor]


def numeric(x: torch.Tensor) -> torch.Tensor:
    """PyTorch has no arithmetic negation or absolute value of bools."""
    return x.int() if x.dtype == torch.bool else x


def weights(x: torch.Tensor) -> torch.Tensor:
    """A softmax by hand."""
    powers = torch.exp(x - x.amax(-1, keepdim=True))
    return powers / powers.sum(-1, keepdim=True)


UNARY: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "neg": lambda x: -numeric(x),
    "relu": lambda x: torch.relu(numeric(x)),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": lambda x: torch.exp(numeric(x).clamp(max=3)),
    "abs": lambda x: torch.abs(numeric(x)),
    "square": lambda x: x * x,
    "half": lambda x: x.to(torch.bfloat16),
    "float": lambda x: x.to(torch.float32),
    "double": lambda x: x.to(torch.float64),
    "int": lambda x: numeric(x).clamp(-100, 100).to(torch.int32),
    "scaled": lambda x: x * 0.5 + 1,
    "clone": torch.clone,
    "positive": lambda x: x > 0,
    "contiguous": lambda x: x.contiguous(),
}
BINARY: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "add": torch.add,
    "sub": lambda a, b: torch.sub(a.float(), numeric(b)),
    "mul": torch.mul,
    "maximum": torch.maximum,
    "greater": torch.gt,
    "where": lambda a, b: torch.where(a > b, a, b),
    "lerp": lambda a, b: torch.lerp(a.float(), b.float(), 0.3),
    "threshold": lambda a, b: torch.ops.aten.threshold_backward(a.float(), b.float(), 0),
}
VIEWS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "transpose": lambda x, n: x.transpose(n % x.dim(), -1),
    "flatten": lambda x, n: x.reshape(-1),
    "split": lambda x, n: x.unflatten(0, (-1, 2)) if x.shape[0] % 2 == 0 and x.shape[0] else x.unsqueeze(0),
    "step": lambda x, n: x[:: 1 + n % 2],
    "tail": lambda x, n: x[..., n % 2 :],
    "expand": lambda x, n: x.unsqueeze(0).expand(2, *x.shape),
    "first": lambda x, n: x.select(0, 0) if x.dim() > 1 and x.shape[0] else x,
    "flip": lambda x, n: x.flip(0),
}
REDUCTIONS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    # With what is broadcast back.
    "centred": lambda x, n: x.float() - x.float().mean(-1, keepdim=True),
    "shares": lambda x, n: x.float() / (1 + x.float().abs().sum(-1, keepdim=True)),
    "standard": lambda x, n: (
        (x.float() - x.float().mean(-1, True)) * (x.float().var(-1, correction=0, keepdim=True) + 1).rsqrt()
    ),
    "weights": lambda x, n: weights(x.float().clamp(-9, 9)),
    "above": lambda x, n: x.float() - x.float().amin(n % x.dim(), keepdim=True),
    "sum": lambda x, n: x.float().sum(n % x.dim(), keepdim=True),
    "total": lambda x, n: x.float().sum().reshape(1),
    "largest": lambda x, n: numeric(x).amax(n % x.dim(), keepdim=True),
    "smallest": lambda x, n: numeric(x).amin(-1, keepdim=True),
    "variance": lambda x, n: x.float().var(n % x.dim(), correction=0, keepdim=True),
    "norm": lambda x, n: torch.linalg.vector_norm(x.float(), 1 + n % 2, -1, keepdim=True),
    "any": lambda x, n: x.any(n % x.dim(), keepdim=True),
    "count": lambda x, n: (x > 0).sum(n % x.dim(), keepdim=True),
    "mean": lambda x, n: x.float().mean(-1, keepdim=bool(n % 2)) if x.dim() > 1 else x.float().mean(0, keepdim=True),
    "softmax": lambda x, n: x.float().softmax(-1),
}
INPLACE: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "add_": lambda a, b: a.add_(b.to(a.dtype)),
    "mul_": lambda a, b: a.mul_(b.to(a.dtype)),
    "copy_": lambda a, b: a.copy_(b),
    "relu_": lambda a, b: a.relu_() if a.dtype != torch.bool else a,
    "zero_": lambda a, b: a.zero_(),
}

Instruction = tuple[str, str, int, int]
number = st.integers(0, 11)
instruction = st.one_of(
    *(
        st.tuples(st.just(kind), st.sampled_from(sorted(names)), number, number)
        for kind, names in [
            ("unary", UNARY),
            ("binary", BINARY),
            ("binary", BINARY),
            ("view", VIEWS),
            ("reduction", REDUCTIONS),
            ("inplace", INPLACE),
        ]
    )
)
shapes = st.sampled_from([(4, 6), (7, 5), (2, 3, 4), (1, 8), (600,), (2, 300), (3, 1, 5), (0, 4), (130, 300)])


def interpret(program: list[Instruction], inputs: Tensors) -> Tensors:
    """Runs the instructions that have a meaning for their operands' shapes; all others are left out."""
    pool = list(inputs)
    for kind, name, first, second in program:
        a, b = pool[first % len(pool)], pool[second % len(pool)]
        if kind == "unary":
            pool.append(UNARY[name](a))
        elif kind == "view":
            pool.append(VIEWS[name](a, second))
        elif kind == "reduction":
            if a.numel() and a.dim():
                pool.append(REDUCTIONS[name](a, second))
        elif kind == "binary":
            try:
                torch.broadcast_shapes(a.shape, b.shape)
            except RuntimeError:
                continue
            pool.append(BINARY[name](a, b))
        else:
            # An expanded tensor cannot be written; a write through one view of overlapping operands
            # is refused by PyTorch as well.
            dense = all(stride > 0 or size <= 1 for size, stride in zip(a.shape, a.stride(), strict=True))
            shared = a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
            if a.shape == b.shape and dense and (a is b or not shared):
                INPLACE[name](a, b)
    return pool


def bits(tensors: Tensors) -> list[bytes]:
    # Every dtype of the pool is exact in f64. One NaN is as good as another: which of two operands'
    # NaN an addition gives is not defined.
    doubles = [tensor.detach().cpu().double() for tensor in tensors]
    return [torch.where(value.isnan(), torch.nan, value).numpy().tobytes() for value in doubles]


def data(shape: tuple[int, ...], seed: int, dtype: torch.dtype, count: int = 3) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(dtype) for _ in range(count)]


class InF64(TorchFunctionMode):
    """Every float type that a program asks for is f64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def widened(value: Any) -> Any:
            return torch.float64 if isinstance(value, torch.dtype) and value.is_floating_point else value

        args, kwargs = tree_map(widened, (args, kwargs or {}))
        return (torch.Tensor.double if func is torch.Tensor.float else func)(*args, **kwargs)


#: How much further from what f64 gives a number may be than CPU eager's furthest is.
FURTHER = 8


def assert_near(actual: torch.Tensor, expected: torch.Tensor, exact: torch.Tensor) -> None:
    """`actual` is CPU eager's within PyTorch's tolerance, or about as near to f64."""
    mine, theirs, exact = actual.cpu().double(), expected.double(), exact.double()
    if not expected.is_floating_point():
        # Rounding may have decided otherwise on one of the devices.
        assert ((mine == theirs) | (mine == exact)).all()
        return
    rtol, atol = default_tolerances(expected)
    close = torch.isclose(mine, theirs, rtol=rtol, atol=atol, equal_nan=True)
    known = mine.isfinite() & exact.isfinite()
    errors = (theirs - exact).abs()[theirs.isfinite() & exact.isfinite()]
    worst = errors.max() if errors.numel() else torch.zeros(())
    near = known & ((mine - exact).abs() <= atol + rtol * exact.abs() + FURTHER * worst)
    assert (close | near).all(), f"{mine[~(close | near)][:3]}, CPU {theirs[~(close | near)][:3]}"


@pytest.mark.filterwarnings("ignore")
@settings(
    max_examples=int(os.environ.get("RUSTORCH_RANDOM_GRAPHS", "300")),
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(
    shape=shapes,
    program=st.lists(instruction, min_size=2, max_size=14),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float32, torch.float32, torch.bfloat16, torch.float16]),
)
def test_a_random_graph_gives_what_eager_gives(shape, program, seed, dtype):
    def fresh(seed: int) -> Tensors:
        return [tensor.to("rustorch") for tensor in data(shape, seed, dtype)]

    def function(*inputs: torch.Tensor) -> Tensors:
        return interpret(program, list(inputs))

    graph = make_fx(function)(*fresh(seed))
    compiled = compile_graph(graph, "inference")
    for seed_of_call in (seed, seed + 1):  # The first call imports; the second runs what was imported.
        mine, theirs = fresh(seed_of_call), fresh(seed_of_call)
        actual, expected = compiled(list(mine)), function(*theirs)
        assert bits(actual) == bits(expected)
        assert bits(mine) == bits(theirs), "inputs are written alike"
    # Here the list alone holds the inputs, so that each is freed after its last use.
    again = compiled(fresh(seed))
    assert bits(again) == bits(function(*fresh(seed)))
    expected = interpret(program, data(shape, seed, dtype))
    with InF64():
        precise = interpret(program, [tensor.double() for tensor in data(shape, seed, dtype)])
    for tensor, reference, exact in zip(again, expected, precise, strict=True):
        assert tensor.dtype == reference.dtype and tensor.shape == reference.shape
        assert_near(tensor, reference, exact)
