"""Ops that are made of others here, against the CPU's kernels; no fallback is allowed in these tests."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("length", [0, 1, 2, 7, 64])
@pytest.mark.parametrize("periodic", [False, True])
def test_kaiser_window(length, periodic, dtype):
    for beta in (0.0, 3.5, 12.0):
        expected = torch.kaiser_window(length, periodic, beta, dtype=dtype)
        actual = torch.kaiser_window(length, periodic, beta, dtype=dtype, device="rustorch")
        torch.testing.assert_close(actual.cpu(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dim", [0, 2])
def test_weight_norm(dtype, dim):
    torch.manual_seed(0)
    v = torch.randn(5, 3, 4, dtype=torch.float64)
    g = torch.randn([size if at == dim else 1 for at, size in enumerate(v.shape)], dtype=torch.float64)
    grad = torch.randn_like(v)
    results = []
    for device in ("cpu", "rustorch"):
        a, b = (value.to(device, dtype).requires_grad_() for value in (v, g))
        w, norm = torch._weight_norm_interface(a, b, dim)
        results.append((w, norm, *torch.autograd.grad(w, (a, b), grad.to(device, dtype))))
    for expected, actual in zip(*results, strict=True):
        assert actual.dtype == expected.dtype
        torch.testing.assert_close(actual.detach().cpu(), expected.detach())


def test_a_weight_normed_module_trains():
    torch.manual_seed(0)
    model = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    twin = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    twin.load_state_dict(model.state_dict())
    twin.to("rustorch")
    x = torch.randn(5, 4)
    for one, given in ((model, x), (twin, x.to("rustorch"))):
        one(given).square().sum().backward()
    for mine, theirs in zip(twin.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad.cpu(), theirs.grad)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64], ids=str)
def test_histc_of_integers(dtype):
    torch.manual_seed(0)
    values = torch.randint(0, 60, (257,)).to(dtype)
    for bins, low, high in ((4, 0, 0), (7, 0, 59), (60, 0, 59), (5, 10, 20), (64, 0, 63)):
        # The CPU has it of floats only.
        expected = torch.histc(values.double(), bins, low, high).to(dtype)
        actual = torch.histc(values.to("rustorch"), bins, low, high)
        assert actual.dtype == dtype
        assert torch.equal(actual.cpu(), expected)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64], ids=str)
def test_random_unsigned_integers(dtype):
    largest = min(torch.iinfo(dtype).max, 2**63 - 1)
    wide = torch.randint(0, 2**15, (4096,), dtype=dtype, device="rustorch").cpu().to(torch.float64)
    assert wide.min() >= 0 and wide.max() < 2**15 and abs(wide.mean() - 2**14) < 1000
    near = torch.empty(512, dtype=dtype, device="rustorch").random_(largest // 2, largest // 2 + 3).cpu()
    assert set(near.tolist()) == {largest // 2, largest // 2 + 1, largest // 2 + 2}
    every = torch.empty(4096, dtype=dtype, device="rustorch").random_().cpu().to(torch.float64)
    assert every.max() > 0.4 * largest
    for wrong in (lambda x: x.random_(-1, 3), lambda x: x.random_(3, 3)):
        with pytest.raises(RuntimeError):
            wrong(torch.empty(4, dtype=dtype, device="rustorch"))


def test_assert_async():
    torch._assert_async(torch.ones((), device="rustorch"))
    torch._assert_async(torch.ones(1, device="rustorch"), "unseen")
    with pytest.raises(RuntimeError, match="got zero"):
        torch._assert_async(torch.zeros((), device="rustorch"))
    with pytest.raises(RuntimeError, match="seen"):
        torch._assert_async(torch.zeros((), device="rustorch"), "seen")


def test_vmap_of_attention():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 2, 4, 5)
    attend = torch.func.vmap(lambda x: F.scaled_dot_product_attention(x, x, x))
    torch.testing.assert_close(attend(x.to("rustorch")).cpu(), attend(x))
