"""Copies to, from and within the device."""

import pytest
import torch

DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
]
EXOTIC = [torch.uint16, torch.uint32, torch.uint64, torch.complex32, torch.float8_e4m3fn, torch.float8_e5m2]


def sample(dtype, shape=(3, 5)):
    values = torch.arange(1, 1 + torch.Size(shape).numel()).reshape(shape)
    if dtype.is_complex:
        return torch.complex(values.float(), -2 * values.float()).to(dtype)
    return (values % 2).to(dtype) if dtype == torch.bool else values.to(dtype)


def same(there, here):
    """Equal in value and dtype; complex32 knows no comparison of its own."""
    assert there.dtype == here.dtype
    wide = torch.complex64 if here.dtype == torch.complex32 else here.dtype
    return torch.equal(there.cpu().to(wide), here.to(wide))


LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.t(),
    "sliced": lambda x: x[1:, ::2],
    "expanded": lambda x: x[:1].expand(4, 5),
    "scalar": lambda x: x[1, 1],
    "empty": lambda x: x[:0],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES + EXOTIC, ids=str)
def test_there_and_back(dtype, layout):
    tensor = LAYOUTS[layout](sample(dtype))
    there = tensor.to("rustorch")
    assert there.dtype == dtype and there.device.type == "rustorch"
    assert there.stride() == tensor.to("cpu", copy=True).stride()
    assert same(there, tensor)
    view = LAYOUTS[layout](sample(dtype).to("rustorch"))
    assert same(view, tensor)
    assert same(view.clone(), tensor)
    assert same(view.contiguous(), tensor)


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("to", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_casts(dtype, to, request):
    if dtype.is_complex and to == torch.bool:
        request.getfixturevalue("allow_fallback")
    tensor = sample(dtype)
    assert torch.equal(tensor.to("rustorch").to(to).cpu(), tensor.to(to))
    assert torch.equal(tensor.to("rustorch", to).cpu(), tensor.to(to))
    target = torch.zeros(5, 3, dtype=to, device="rustorch").t()
    assert torch.equal(target.copy_(tensor).cpu(), tensor.to(to))


@pytest.mark.allow_fallback
@pytest.mark.parametrize("dtype", [dtype for dtype in EXOTIC if not dtype.is_complex], ids=str)
def test_casts_that_rust_lacks_fall_back(dtype):
    tensor = sample(torch.float32)
    torch.rustorch.reset_fallback_counts()
    assert torch.equal(tensor.to("rustorch").to(dtype).cpu(), tensor.to(dtype))
    assert torch.equal(tensor.to(dtype).to("rustorch").float().cpu(), tensor.to(dtype).float())
    assert torch.rustorch.fallback_counts() == {"aten::copy_": 2}


def test_half_complex_numbers_widen_and_narrow():
    tensor = sample(torch.complex64)
    half = tensor.to("rustorch").to(torch.complex32)
    assert same(half, tensor.to(torch.complex32))
    assert same(half.to(torch.complex128), tensor.to(torch.complex128))


def test_lazy_conjugates_and_negatives():
    tensor = sample(torch.complex64)
    there = tensor.to("rustorch")
    cases = {
        "conj": lambda x: x.conj(),
        "resolved": lambda x: x.conj().resolve_conj(),
        "imag of conj": lambda x: x.conj().imag,
        "negative resolved": lambda x: x.conj().imag.resolve_neg(),
        "widened": lambda x: x.conj().to(torch.complex128),
        "transposed": lambda x: x.conj().t(),
        "clone": lambda x: x.conj().clone(),
        "real": lambda x: x.conj().real,
    }
    for name, case in cases.items():
        result, expected = case(there).cpu(), case(tensor)
        assert torch.equal(result.resolve_conj().resolve_neg(), expected.resolve_conj().resolve_neg()), name
    target = torch.zeros_like(there).conj()
    target.copy_(tensor)
    assert torch.equal(target.cpu().resolve_conj(), tensor)
    target.imag.copy_(tensor.real)
    assert torch.equal(target.imag.cpu().resolve_neg(), tensor.real)


def test_broadcast_and_refusals():
    target = torch.zeros(2, 3, device="rustorch")
    assert target.copy_(torch.tensor([1.0, 2.0, 3.0])).tolist() == [[1, 2, 3]] * 2
    assert target.cpu().copy_(torch.tensor(5.0, device="rustorch")).tolist() == [[5] * 3] * 2
    with pytest.raises(RuntimeError, match="must match the size of tensor"):
        target.copy_(torch.zeros(4))
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        target.copy_(torch.zeros(2, 2, 3))
    with pytest.raises(RuntimeError, match="more than one element"):
        torch.zeros(1, device="rustorch").expand(3).copy_(torch.zeros(3))
    with pytest.raises(RuntimeError, match="single memory location"):
        line = torch.zeros(5, device="rustorch")
        line[1:].copy_(line[:-1])
    with pytest.raises(NotImplementedError, match="no data"):
        target.copy_(torch.zeros(2, 3, device="meta"))


def test_a_copy_is_a_copy():
    tensor = torch.zeros(3)
    there = tensor.to("rustorch")
    there.fill_(1)
    assert tensor.tolist() == [0, 0, 0]
    assert there.to("rustorch") is there
    again = there.to("rustorch", copy=True)
    again.zero_()
    assert there.tolist() == [1, 1, 1]


def test_non_blocking_and_pinned_memory():
    pinned = torch.ones(3).pin_memory()
    assert pinned.is_pinned() and not torch.ones(3).is_pinned()
    there = pinned.to("rustorch", non_blocking=True)
    assert there.to("cpu", non_blocking=True).tolist() == [1, 1, 1]
    assert torch.empty(2, pin_memory=True).is_pinned()


def test_gradients_flow_through_copies():
    tensor = torch.ones(3, requires_grad=True)
    there = tensor.to("rustorch", torch.float64)
    there.backward(torch.full((3,), 2.0, dtype=torch.float64, device="rustorch"))
    assert tensor.grad.device.type == "cpu" and tensor.grad.tolist() == [2, 2, 2]


def test_large_copies_and_transposes():
    tensor = torch.arange(1_000_003 * 2, dtype=torch.int32).view(2, -1)
    there = tensor.to("rustorch")
    assert torch.equal(there.cpu(), tensor)
    assert torch.equal(there.t().contiguous().cpu(), tensor.t().contiguous())


def test_chunks_of_a_number_are_refused() -> None:
    number = torch.tensor(1.0, device="rustorch")
    with pytest.raises(RuntimeError, match="at least one dimension"):
        torch._chunk_cat([number, number], 0, 2)


# Both sides dense, in different dimensions: squares of sixteen, and what is left of them.
SWAPPED = {
    "whole squares": (lambda x: x.t(), (32, 48)),
    "one too few": (lambda x: x.t(), (15, 31)),
    "one more": (lambda x: x.t(), (17, 33)),
    "a batch": (lambda x: x.transpose(1, 3), (2, 20, 3, 18)),
    "channels last": (lambda x: x.permute(0, 2, 3, 1), (2, 19, 5, 7)),
    "rows apart": (lambda x: x[:, 1:].t(), (21, 40)),
    "columns apart": (lambda x: x[::3].t(), (60, 17)),
    "flat": (lambda x: x.permute(2, 0, 1), (16, 1, 16)),
    "expanded": (lambda x: x[:1].expand(20, 20, 20).transpose(1, 2), (2, 20, 20)),
}


@pytest.mark.parametrize("name", SWAPPED)
@pytest.mark.parametrize("dtype", DTYPES + EXOTIC, ids=str)
def test_transposes(name, dtype):
    view, shape = SWAPPED[name]
    tensor = sample(dtype, shape)
    there = tensor.to("rustorch")
    assert same(view(there).contiguous(), view(tensor).contiguous())
    # The other way round, into a strided view, of which the rest stays.
    if name != "expanded":
        target, wanted = torch.zeros_like(there), torch.zeros_like(tensor)
        view(target).copy_(view(there).contiguous())
        view(wanted).copy_(view(tensor).contiguous())
        assert same(target, wanted)
