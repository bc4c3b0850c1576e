"""Memory that cannot be had is `torch.OutOfMemoryError`, whoever asks for it, and tensors are as they were."""

import functools
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from memory_limit import DONE, REFUSED, under

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is Linux's")

COUNT = 1 << 21


@pytest.fixture(scope="module")
def server() -> Iterator[Executor]:
    """A process to fork from. OpenMP's threads, which this one has, would hang a child that asks for them."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor


@functools.cache
def data() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(COUNT, generator=generator)
    index = torch.randint(0, COUNT, (COUNT,), generator=generator)
    probabilities = torch.rand(2, COUNT // 2, generator=generator)
    return [tensor.to("rustorch") for tensor in (x, index, probabilities)]


CALLS = {
    "index": lambda x, i, p: x[i],
    "index of two": lambda x, i, p: x.view(2, -1)[i % 2, i // 2],
    "index_put": lambda x, i, p: x.clone().index_put_((i,), x, accumulate=True),
    "take": lambda x, i, p: x.take(i),
    "put": lambda x, i, p: x.clone().put_(i, x),
    "scatter_add": lambda x, i, p: x.clone().scatter_add_(0, i, x),
    "scatter_reduce": lambda x, i, p: x.clone().scatter_reduce_(0, i, x, "mean"),
    "index_add in half": lambda x, i, p: x.half().index_add_(0, i, x.half()),
    "masked_select": lambda x, i, p: x.masked_select(x > 0.5),
    "masked_scatter": lambda x, i, p: x.clone().masked_scatter_(x > 0.5, x),
    "nonzero": lambda x, i, p: (x > 0.5).nonzero(),
    "embedding gradient": lambda x, i, p: torch.ops.aten.embedding_dense_backward(x.view(-1, 1), i, COUNT, -1, True),
    "embedding_bag": lambda x, i, p: F.embedding_bag(i, x.view(-1, 1), i.sort()[0]),
    "bincount": lambda x, i, p: torch.bincount(i),
    "bincount of weights": lambda x, i, p: torch.bincount(i, x),
    "histc": lambda x, i, p: x.histc(COUNT),
    "bucketize": lambda x, i, p: torch.bucketize(x, x.sort()[0]),
    "unique": lambda x, i, p: torch.unique(i, return_inverse=True, return_counts=True),
    "unique of rows": lambda x, i, p: torch.unique(i.view(-1, 2), dim=0),
    "sort": lambda x, i, p: x.sort(),
    "topk": lambda x, i, p: x.topk(COUNT // 2),
    "cumsum": lambda x, i, p: x.cumsum(0),
    "randperm": lambda x, i, p: torch.randperm(COUNT, device="rustorch"),
    "multinomial": lambda x, i, p: p.multinomial(1000),
    "poisson": lambda x, i, p: torch.poisson(x),
    "binomial": lambda x, i, p: torch.binomial(x, x),
    "bernoulli": lambda x, i, p: torch.bernoulli(x.view(2, -1).t()),
    "uniform of a transposed": lambda x, i, p: torch.empty(2, COUNT // 2, device="rustorch").t().uniform_(),
    "dropout of a transposed": lambda x, i, p: F.dropout(x.view(2, -1).t()),
    "batch_norm": lambda x, i, p: F.batch_norm(x.view(2, -1), None, None, training=True),
    "layer_norm": lambda x, i, p: F.layer_norm(x, x.shape),
    "group_norm": lambda x, i, p: F.group_norm(x.view(2, -1, 1), 2),
    "nll_loss": lambda x, i, p: F.nll_loss(x.view(-1, 2), i[: COUNT // 2] % 2),
    "multi_margin_loss": lambda x, i, p: F.multi_margin_loss(x.view(-1, 2), i[: COUNT // 2] % 2),
    "max_pool gradient": lambda x, i, p: F.max_pool2d(x.view(1, 1, 1024, -1).requires_grad_(), 2).sum().backward(),
    "avg_pool": lambda x, i, p: F.adaptive_avg_pool1d(x.view(1, 1, -1), COUNT // 2),
    "fold": lambda x, i, p: F.fold(x.view(1, 4, -1)[..., : 1023 * 511], (1024, 512), 2),
    "grid_sample": lambda x, i, p: F.grid_sample(x.view(1, 1, 1024, -1), x.view(1, 1024, -1, 2)),
    "interpolate": lambda x, i, p: F.interpolate(x.view(1, 1, -1), scale_factor=2.0, mode="linear"),
    "conv": lambda x, i, p: F.conv2d(x.view(1, 1, 1024, -1), torch.ones(4, 1, 3, 3, device="rustorch")),
    "mm": lambda x, i, p: x.view(1024, -1) @ x.view(-1, 1024),
    "std": lambda x, i, p: x.view(2, -1).std(0),
    "sum in half": lambda x, i, p: x.half().view(2, -1).sum(0),
    "segment_reduce": lambda x, i, p: torch.segment_reduce(x, "sum", lengths=torch.ones_like(i), unsafe=True),
    "cat": lambda x, i, p: torch.cat([x, x.double()]),
    "softmax": lambda x, i, p: x.view(2, -1).softmax(0),
    "fused adam": lambda x, i, p: torch.optim.Adam([x.clone().view(2, -1).t().requires_grad_()], fused=True).step(),
}  # fmt: skip


COMPILED = torch.compile(lambda x, i, p: (x[i] * 2).cumsum(0).exp() + x.take(i), backend="rust_backend")


def outcomes(name: str) -> tuple[set[int], bool]:
    """What becomes of a call under each of some limits, and whether its operands are as they were."""
    # No kernel of the CPU may run before the fork.
    torch.rustorch.set_fallback_policy("error")
    call, operands = CALLS.get(name, COMPILED), data()
    call(*operands)  # Nothing is loaded or compiled for the first time under a limit.
    before = [tensor.clone() for tensor in operands]
    ends = {under(limit << 20, lambda: call(*operands)) for limit in (0, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64)}
    return ends, all(torch.equal(mine, theirs) for mine, theirs in zip(operands, before, strict=True))


@pytest.mark.parametrize("name", CALLS)
def test_a_limit_of_memory_ends_no_process(name, server):
    ends, unchanged = server.submit(outcomes, name).result()
    assert ends <= {REFUSED, DONE}
    assert unchanged


def test_a_compiled_program_refuses_as_well(server):
    ends, unchanged = server.submit(outcomes, "compiled").result()
    assert ends <= {REFUSED, DONE} and REFUSED in ends
    assert unchanged
