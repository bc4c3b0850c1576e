"""Indexing, gathering, scattering and joining against the CPU."""

import pytest
import torch
import torch.nn.functional as F
from compared import ALL, FLOATS, assert_same, check, check_error, numbers, on_device


def indices(*size: int, below: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, below, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [*ALL, torch.complex64])
def test_moves_of_every_dtype(dtype):
    x = numbers(5, 6).to(dtype) if dtype.is_complex else numbers(5, 6, dtype=dtype)
    rows, cells = indices(4, below=5), indices(4, 6, below=5)
    check(lambda x, i: x.gather(0, i), x, cells)
    check(lambda x, i, s: x.scatter(0, i, s), x, indices(1, 6, below=5), x[:1].clone())
    check(lambda x, i: x.index_select(0, i), x, rows)
    check(lambda x, i: x[i], x, rows)
    check(lambda x: x.flip(0, 1), x)
    check(lambda x: x.roll((1, -2), (0, 1)), x)
    check(lambda x: x.tril(1), x)
    check(lambda x: x.triu(-1), x)
    check(lambda x: torch.cat([x, x.t().reshape(5, 6)], 1), x)
    check(lambda x, m: x.masked_select(m), x, numbers(5, 6, dtype=torch.bool))


@pytest.mark.parametrize("dtype", ALL)
def test_writes_of_every_dtype(dtype):
    x, source = numbers(5, 6, dtype=dtype), numbers(4, 6, dtype=dtype, seed=2)
    rows = torch.tensor([1, 0, 1, 4])
    check(lambda x, i: x.scatter(0, i, 1), x, indices(3, 6, below=5))
    check(lambda x, i: x.index_fill(0, i, 1), x, rows)
    check(lambda x, i, s: x.index_copy(0, i, s), x, rows[1:], source[1:])
    check(lambda x, m: x.masked_fill(m, 1), x, numbers(6, dtype=torch.bool))
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if dtype in FLOATS[2:] else {}
    check(lambda x, i, s: x.scatter_add(0, i, s), x, indices(4, 6, below=5), source, **tolerance)
    check(lambda x, i, s: x.index_put((i,), s, accumulate=True), x, rows, source, **tolerance)
    if dtype != torch.bool:
        check(lambda x, i, s: x.index_add(0, i, s, alpha=2), x, rows, source, **tolerance)


@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
def test_scatter_reduce(reduce, include_self):
    for dtype in (torch.float32, torch.float64, torch.int64):
        x, source = numbers(5, 7, dtype=dtype), numbers(6, 7, dtype=dtype, seed=3)
        check(
            lambda x, i, s: x.scatter_reduce(0, i, s, reduce, include_self=include_self),
            x,
            indices(6, 7, below=5),
            source,
        )


def test_gradients():
    x, source = numbers(5, 6), numbers(4, 6, seed=2)
    cells, rows = indices(4, 6, below=5), indices(4, below=5)
    check(lambda x, i: x.gather(0, i), x, cells, grad=True)
    check(lambda x, i, s: x.scatter(1, i, s), x, torch.arange(4).repeat(4, 1), source[:, :4], grad=True)
    check(lambda x, i, s: x.scatter_add(0, i, s), x, cells, source, grad=True)
    check(lambda x, i: x.index_select(1, i), x, rows, grad=True)
    check(lambda x, i, s: x.index_add(0, i, s), x, rows, source, grad=True)
    check(lambda x, i: x[i, :, None], x, rows, grad=True)
    check(lambda x, i: x[:, i], x, rows, grad=True)
    check(lambda x, m: x[m], x, x > 0, grad=True)
    check(lambda x, m, y: torch.where(m, x, y), x, x > 0, numbers(6, seed=4), grad=True)
    check(lambda x, m: x.masked_fill(m, 2.0), x, x > 0, grad=True)
    check(lambda a, b: torch.cat([a, b]), x, source, grad=True)
    check(lambda a: torch.stack([a, a * 2], 1), x, grad=True)


def test_gradients_by_finite_differences():
    x = on_device(numbers(4, 5, dtype=torch.float64)).requires_grad_()
    cells, rows = on_device(indices(3, 5, below=4)), on_device(torch.tensor([0, 2, 0]))
    assert torch.autograd.gradcheck(lambda x: x.gather(0, cells), x)
    assert torch.autograd.gradcheck(lambda x: x[rows, 1:], x)
    assert torch.autograd.gradcheck(lambda x: torch.cat([x, x[rows]]), x)
    assert torch.autograd.gradcheck(lambda w: F.embedding(rows, w), x)


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x.transpose(0, 2), lambda x: x[:, ::2, 1:]])
def test_indexing_with_tensors(view):
    x = view(numbers(6, 8, 6))
    i, j = torch.tensor([[0, -1], [2, 1]]), torch.tensor([1, 0])
    for function in (
        lambda x, i, j: x[i],
        lambda x, i, j: x[i, j],
        lambda x, i, j: x[:, i, j],
        lambda x, i, j: x[i, :, j],
        lambda x, i, j: x[1, i],
        lambda x, i, j: x[..., j, None],
        lambda x, i, j: x[i.int()],
        lambda x, i, j: x[x > 0],
        lambda x, i, j: x[x[:, 0, 0] > 0, :, 1],
        lambda x, i, j: x[[]],
    ):
        check(function, x, i, j)


def test_assignment():
    def write(x, where, value):
        x = x.clone()
        x[where] = value
        return x

    x, rows = numbers(5, 4), torch.tensor([3, 0, -1])
    check(write, x, rows, 2.0)
    check(write, x, (rows, slice(1, 3)), numbers(3, 2))
    check(write, x, (slice(None), rows), numbers(3))
    check(write, x, x > 0, 7.0)
    check(write, x, x > 0, numbers(int((x > 0).sum())))
    check(write, x, (torch.tensor([1, 1]), torch.tensor([2, 3])), numbers(2))


def test_embedding():
    weight, tokens = numbers(11, 5), indices(3, 7, below=11)
    check(lambda w, t: F.embedding(t, w), weight, tokens, grad=True)
    check(lambda w, t: F.embedding(t, w, padding_idx=4), weight, tokens, grad=True)
    check(lambda w, t: F.embedding(t, w, scale_grad_by_freq=True), weight, tokens, grad=True)
    check(lambda w, t: F.embedding(t.int(), w), weight, tokens)
    check(lambda t: F.one_hot(t, 11), tokens)


def test_masks():
    x = numbers(6, 5)
    x[0, 0] = torch.nan
    for function in (
        lambda x: x.nonzero(),
        lambda x: (x > 0).nonzero(as_tuple=True),
        lambda x: torch.argwhere(x[:0]),
        lambda x: x.masked_select(x[:1] > 0),
        lambda x: torch.where(x > 0),
        lambda x: torch.where(x > 0, x, 0.0),
        lambda x: torch.where(x > 0, x, x.double()),
        lambda x: torch.where(x > 0, x.long(), x[0]),
        lambda x: x.clone().masked_fill_(x.isnan(), torch.tensor(3.0)),
    ):
        check(function, x)
    check(lambda x: x.nonzero(), torch.tensor(1.0))


def test_joining():
    a, b = numbers(3, 4), numbers(3, 4, seed=2)
    for function in (
        lambda a, b: torch.cat([a, b], -1),
        lambda a, b: torch.cat([a, b.double()]),
        lambda a, b: torch.cat([a.int(), b.bool()]),
        lambda a, b: torch.cat([a, torch.empty(0, device=a.device), b]),
        lambda a, b: torch.cat([a.t(), b.t()], 1),
        lambda a, b: torch.stack([a, b], 2),
        lambda a, b: torch.hstack([a, b]),
        lambda a, b: torch.cat([a[None, :, :, None].to(memory_format=torch.channels_last)] * 2, 1),
    ):
        check(function, a, b)


def test_out():
    x, rows = on_device(numbers(5, 4)), on_device(torch.tensor([1, 3]))
    out = torch.empty(4, 2, device="rustorch").t()
    torch.index_select(x, 0, rows, out=out)
    assert torch.equal(out.cpu(), x.cpu()[[1, 3]])
    torch.gather(x, 0, rows.expand(4, 2).t(), out=out)
    wide = torch.empty(10, 4, device="rustorch")
    torch.cat([x, x], out=wide)
    assert torch.equal(wide[5:].cpu(), x.cpu())
    with pytest.raises(TypeError):
        torch.cat([x, x], out=torch.empty(10, 4, dtype=torch.int64, device="rustorch"))


def test_sums_do_not_depend_on_the_thread_count():
    grad, tokens = on_device(numbers(4096, 64)), on_device(indices(4096, below=50))
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        zeros = torch.zeros(50, 64, device="rustorch")
        results.append(zeros.index_add(0, tokens, grad).cpu())
    torch.set_num_threads(before)
    assert torch.equal(*results)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, i: x.gather(0, i[None]),
        lambda x, i: x.scatter(0, i[None], 1.0),
        lambda x, i: x.scatter_add(0, i[None], x),
        lambda x, i: x.scatter(0, i[None] % 3, x.double()),
        lambda x, i: x.index_select(0, i),
        lambda x, i: x.index_add(0, i, x),
        lambda x, i: x.index_add(0, i % 3, x),
        lambda x, i: x.index_copy(0, i, x[:2]),
        lambda x, i: x.index_fill(0, i, 1.0),
        lambda x, i: x[i],
        lambda x, i: x[-i],
        lambda x, i: x[i.float()],
        lambda x, i: x[i % 3, torch.cat([i, i[:1]])],
        lambda x, i: x[i, i, i],
        lambda x, i: x[x[0] > 0],
        lambda x, i: x.index_put((i,), x[:2]),
        lambda x, i: x.index_put((i % 3,), x),
        lambda x, i: x.index_put((i % 3,), x[:2].double()),
        lambda x, i: F.embedding(i, x),
        lambda x, i: F.embedding(-i, x),
        lambda x, i: x.masked_select(i),
        lambda x, i: x.masked_fill_(i, 1.0),
        lambda x, i: torch.where(i, x[0], x[0]),
        lambda x, i: torch.cat([x, x.t()]),
        lambda x, i: x.flip(0, 0),
        lambda x, i: x.roll((1, 2), 0),
    ],
)
def test_errors(function):
    check_error(function, numbers(3, 2), torch.tensor([0, 5]))


def test_what_has_nothing_to_pick_is_refused():
    rows, first = numbers(0, 5), torch.tensor([0])
    check_error(torch.ops.aten.embedding, rows, first)
    check_error(lambda x, i: x.index_select(0, i), rows, first)
    check_error(lambda x, i: x.index_add(0, i, x), torch.tensor(1.0), torch.tensor([2]))


def test_nothing_is_written_when_an_index_is_refused():
    x = on_device(numbers(3, 2))
    before = x.cpu()
    with pytest.raises(IndexError, match="index 5 is out of bounds for dimension 0 with size 3"):
        x[on_device(torch.tensor([0, 5]))] = 1.0
    assert_same(x, before)


@pytest.mark.parametrize(("size", "dim"), [((0,), 0), ((3, 0), 1), ((0, 3), 0)])
def test_filling_along_nothing(size, dim):
    check(lambda x: x.index_fill(dim, torch.tensor([], dtype=torch.long, device=x.device), 1), torch.zeros(size))
    for at in (0, 2):
        check_error(lambda x, at=at: x.index_fill(dim, torch.tensor([at], device=x.device), 1), torch.zeros(size))


@pytest.mark.parametrize(
    "function",
    [
        lambda x, m: x.index_put((m,), torch.tensor([], device=x.device)),
        lambda x, m: x.index_put((m,), torch.ones(3, device=x.device)),
        lambda x, m: x.index_put((m,), torch.ones(4, device=x.device)),
        lambda x, m: x.index_put((m,), torch.tensor(1.5), accumulate=True),
        lambda x, m: x.index_put((m,), torch.tensor(2 + 1j)),
        lambda x, m: x.new_empty(3, 0)[:, [0, 1]],
        lambda x, m: x.new_empty(3, 0).index_put((m[:3], torch.tensor([0], device=x.device)), x[0]),
    ],
)
def test_what_is_refused_first_is_the_cpus(function):
    """The sentence too: PyTorch's own tests ask for it."""
    x, mask = torch.arange(4), torch.ones(4, dtype=torch.bool)
    with pytest.raises(Exception) as expected:
        function(x, mask)
    with pytest.raises(expected.type) as raised:
        function(on_device(x), on_device(mask))
    assert str(raised.value).startswith(str(expected.value))


@pytest.mark.parametrize("value", [torch.tensor(1.5), torch.tensor([2.5]), torch.tensor(True), torch.tensor([[3]])])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool, torch.float16])
def test_one_number_for_a_mask_has_any_dtype(value, dtype):
    x = torch.arange(6).reshape(2, 3).to(dtype)
    for mask in (x > 1, torch.tensor([True, False])):
        expected = x.index_put((mask,), value)
        for number in (value, on_device(value)):
            assert_same(on_device(x).index_put((on_device(mask),), number), expected)
