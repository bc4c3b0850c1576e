"""What no kernel gets to see: operands beyond their storage, overlaps, indices out of range, two devices."""

import pytest
import torch
from compared import DEVICE, check_error
from torch.nn import functional as F

from rustorch_device import alias

OVERLAP = "unsupported operation: some elements of the input tensor and the written-to tensor refer to a single"
INTERNAL = "unsupported operation: more than one element of the written-to tensor refers to a single memory location"


def shrunk(bytes_left=0, size=(4, 5)):
    """A tensor whose storage was taken away under it."""
    tensor = torch.ones(size, device=DEVICE)
    tensor.untyped_storage().resize_(bytes_left)
    return tensor


OPS = {
    "add": lambda x: x + x,
    "out": lambda x: torch.exp(torch.ones(4, 5, device=DEVICE), out=x),
    "in place": lambda x: x.mul_(2),
    "sum": lambda x: x.sum(),
    "matmul": lambda x: x @ x.t(),
    "softmax": lambda x: x.softmax(1),
    "copy": lambda x: x.clone(),
    "to the CPU": lambda x: x.cpu(),
    "from the CPU": lambda x: x.copy_(torch.ones(4, 5)),
    "fill": lambda x: x.zero_(),
    "gather": lambda x: x.gather(1, torch.zeros(4, 1, dtype=torch.int64, device=DEVICE)),
    "index": lambda x: x[torch.tensor([0])],
    "random": lambda x: x.uniform_(),
    "layer_norm": lambda x: F.layer_norm(x, (5,)),
    "cat": lambda x: torch.cat([torch.ones(4, 5, device=DEVICE), x]),
}


@pytest.mark.parametrize("bytes_left", [0, 4, 79])
@pytest.mark.parametrize("name", OPS)
def test_a_view_beyond_its_storage_is_refused(name, bytes_left):
    tensor = shrunk(bytes_left)
    with pytest.raises(RuntimeError, match=rf"out of bounds for storage of size {bytes_left}\b"):
        OPS[name](tensor)


@pytest.mark.allow_fallback
def test_the_fallback_refuses_it_too():
    with pytest.raises(RuntimeError, match="out of bounds for storage of size 8"):
        torch.special.i1e(shrunk(8))


def test_a_view_that_fits_again_is_taken_again():
    tensor = shrunk()
    tensor.untyped_storage().resize_(80)
    assert tensor.fill_(2).sum().item() == 40


def test_set_beyond_the_storage():
    storage = torch.arange(6.0, device=DEVICE).untyped_storage()
    tensor = torch.empty(0, device=DEVICE).set_(storage, 1, (2, 2), (3, 1))
    assert tensor.tolist() == [[1, 2], [4, 5]]
    storage.resize_(20)
    with pytest.raises(RuntimeError, match=r"itemsize 4, from byte 4 on, .*storage of size 20 \(in neg"):
        tensor.neg()
    with pytest.raises(RuntimeError, match="out of bounds for storage"):
        torch.arange(6.0, device=DEVICE).as_strided((3, 3), (3, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.float64])
def test_memory_across_the_alignment_of_its_elements_is_refused(dtype):
    tensor = alias(torch.frombuffer(bytearray(65), dtype=dtype, offset=1, count=4))
    for call in (tensor.abs, tensor.sum, tensor.clone, tensor.cpu, lambda: tensor.fill_(1), lambda: tensor + 1):
        with pytest.raises(RuntimeError, match=rf"is not aligned to {dtype.itemsize} bytes"):
            call()
    assert alias(tensor).tolist() == [0] * 4
    assert torch.frombuffer(bytearray(65), dtype=torch.uint8, offset=1).to(DEVICE).sum() == 0


def test_nothing_is_written_where_an_operand_is_refused():
    target = torch.zeros(4, 5, device=DEVICE)
    with pytest.raises(RuntimeError, match="out of bounds"):
        target.add_(shrunk(40))
    with pytest.raises(RuntimeError, match="single memory"):
        target[1:].add_(target[:-1])
    assert (target == 0).all()


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x[:1].expand(3, 4).add_(1),
        lambda x: x[:1].expand(3, 4).copy_(torch.ones(3, 4, device=x.device)),
        lambda x: torch.mm(x, x.t(), out=x[0, :1].expand(3, 3)),
        lambda x: x[:1].expand(3, 4).scatter_(1, torch.zeros(3, 1, dtype=torch.int64, device=x.device), 1.0),
        lambda x: x[:, 0].expand(2, 3).cumsum_(0),
    ],
)
def test_an_output_that_repeats_elements(write):
    with pytest.raises(RuntimeError, match=INTERNAL):
        write(torch.zeros(3, 4, device=DEVICE))


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x[1:].add_(x[:-1]),
        lambda x: x[1:].copy_(x[:-1]),
        lambda x: torch.exp(x[1:], out=x[:-1]),
        lambda x: torch.add(x[:4], x[4:], out=x[2:6]),
        lambda x: x.view(8, 1).add_(x[2:3]),
        lambda x: x.view(2, 4).copy_(x.view(4, 2).t()),
        lambda x: x[:4].view(torch.int32).copy_(x[2:6]),
    ],
)
@pytest.mark.parametrize("device", ["cpu", DEVICE])
def test_partial_overlap_is_refused_as_on_the_cpu(write, device):
    x = torch.arange(8.0, device=device)
    with pytest.raises(RuntimeError, match=OVERLAP):
        write(x)
    assert x.tolist() == list(range(8))


@pytest.mark.parametrize(
    "write",
    [
        lambda x: torch.mm(x, x, out=x),
        lambda x: torch.cat([x[:1], x[1:]], out=x),
        lambda x: torch.gather(x, 0, torch.zeros(3, 3, dtype=torch.int64, device=x.device), out=x),
        lambda x: x.scatter_(0, torch.zeros(3, 3, dtype=torch.int64, device=x.device), x),
        lambda x: torch.sum(x[:1], 0, keepdim=True, out=x[:1]),
    ],
)
def test_ops_that_cannot_work_in_place(write):
    x = torch.arange(9.0, device=DEVICE).view(3, 3)
    before = x.cpu()
    with pytest.raises(RuntimeError, match="single memory location"):
        write(x)
    assert torch.equal(x.cpu(), before)


def test_what_the_cpu_takes_is_taken():
    for device in ("cpu", DEVICE):
        x = torch.arange(16.0, device=device).view(4, 4)
        x.add_(x).mul_(x)
        x[:, ::2].add_(x[:, 1::2])
        x[::2].copy_(x[1::2])
        x.cumsum_(0).tril_()
        x[:2].copy_(x[2:])
        x.addmm_(x.clone(), x.clone())
        if device == "cpu":
            expected = x
    torch.testing.assert_close(x.cpu(), expected)


INDEX_ERRORS = {
    "gather": lambda x, i: x.gather(0, i.view(-1, 1)),
    "index_select": lambda x, i: x.index_select(0, i),
    "index": lambda x, i: x[i],
    "index_put": lambda x, i: x.index_put_((i,), torch.tensor(1.0, device=x.device)),
    "scatter": lambda x, i: x.scatter_(0, i.view(-1, 1), 1.0),
    "scatter_add": lambda x, i: x.scatter_add_(0, i.view(-1, 1), torch.ones(2, 1, device=x.device)),
    "index_add": lambda x, i: x.index_add_(0, i, torch.ones(2, 3, device=x.device)),
    "index_copy": lambda x, i: x.index_copy_(0, i, torch.ones(2, 3, device=x.device)),
    "index_fill": lambda x, i: x.index_fill_(0, i, 1.0),
    "embedding": lambda x, i: F.embedding(i, x),
    "embedding_bag": lambda x, i: F.embedding_bag(i.view(1, -1), x),
    "embedding_renorm": lambda x, i: torch.embedding_renorm_(x, i, 1.0, 2.0),
    "nll_loss": lambda x, i: F.nll_loss(x[:2], i),
    "multi_margin": lambda x, i: F.multi_margin_loss(x[:2], i),
    "max_unpool": lambda x, i: F.max_unpool1d(x[:1, :2], i.view(1, -1), 2, output_size=(3,)),
    "pool backward": lambda x, i: torch.ops.aten.max_pool2d_with_indices_backward(
        x[:1, :2].view(1, 1, 2), x[:3].view(1, 4, 3), [1, 1], [1, 1], [0, 0], [1, 1], False, i.view(1, 1, 2)
    ),
}


@pytest.mark.parametrize("bad", [[0, 100], [-7, 0], [2**62, 1]])
@pytest.mark.parametrize("name", INDEX_ERRORS)
def test_indices_out_of_range(name, bad):
    x = torch.arange(12.0).view(4, 3)
    check_error(INDEX_ERRORS[name], x, torch.tensor(bad))
    there = x.to(DEVICE)
    with pytest.raises((RuntimeError, IndexError), match=r"(?i)out of|invalid|index|idx"):
        INDEX_ERRORS[name](there, torch.tensor(bad, device=DEVICE))
    assert torch.equal(there.cpu(), x), "it was written to before the refusal"


STRANGERS = {
    "add": lambda x, y: x + y,
    "in place": lambda x, y: x.mul_(y),
    "out": lambda x, y: torch.exp(x, out=y),
    "mm": lambda x, y: x @ y,
    "addmm": lambda x, y: torch.addmm(x, x, y),
    "cat": lambda x, y: torch.cat([x, y]),
    "where": lambda x, y: torch.where(x > 0, x, y),
    "linear": lambda x, y: F.linear(x, y),
    "conv": lambda x, y: F.conv1d(x.view(1, 3, 3), y.view(3, 3, 1)),
    "layer_norm": lambda x, y: F.layer_norm(x, (3,), y[0]),
    "batch_norm": lambda x, y: F.batch_norm(x, y[0], y[1], training=True),
    "mse": lambda x, y: F.mse_loss(x, y),
    "cross_entropy": lambda x, y: F.cross_entropy(x, y[0].long()),
    "gather": lambda x, y: x.gather(0, y.long()),
    "index_select": lambda x, y: x.index_select(0, y[0].long()),
    "embedding": lambda x, y: F.embedding(y.long(), x),
    "scatter": lambda x, y: x.scatter_(0, torch.zeros_like(x, dtype=torch.int64), y),
    "masked_fill": lambda x, y: x.masked_fill_(y > 0, 1.0),
    "attention": lambda x, y: F.scaled_dot_product_attention(x[None], y[None], y[None]),
    "foreach": lambda x, y: torch._foreach_add([x], [y]),
    "dot": lambda x, y: torch.dot(x[0], y[0]),
    "lerp": lambda x, y: x.lerp(y, 0.5),
    "fallback": lambda x, y: torch.special.zeta(x, y),
    "fallback of a factory": lambda x, y: torch.linalg.solve_triangular(x, y, upper=True),
}


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("order", ["rustorch first", "cpu first"])
def test_two_devices_are_refused(name, order):
    operands = [torch.ones(3, 3, device=DEVICE), torch.ones(3, 3)]
    if order == "cpu first":
        operands.reverse()
    with pytest.raises(RuntimeError, match=r"(?i)Expected .*(same device|device)"):
        STRANGERS[name](*operands)
    assert all((operand == 1).all() for operand in operands)


def test_numbers_and_indices_may_stay_on_the_cpu():
    x = torch.arange(6.0, device=DEVICE).view(2, 3)
    two = torch.tensor(2.0)
    assert (x * two).tolist() == (two * x).tolist() == [[0, 2, 4], [6, 8, 10]]
    assert torch.special.zeta(x + 2, two).device.type == DEVICE
    assert torch.where(x > 2, x, two).tolist() == [[2, 2, 2], [3, 4, 5]]
    assert x[torch.tensor([1])].tolist() == [[3, 4, 5]]
    assert x[torch.tensor([True, False])].tolist() == [[0, 1, 2]]
    x[torch.tensor([0])] = two
    x.index_put_((torch.tensor([1]), torch.tensor([2])), torch.tensor(7.0))
    assert x.tolist() == [[2, 2, 2], [3, 4, 7]]
    assert x.masked_fill(x > 3, two).tolist() == [[2, 2, 2], [3, 2, 2]]
    assert x.fill_(two).sum().item() == 12
