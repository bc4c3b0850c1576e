"""One memory under two devices' names."""

import gc

import numpy as np
import pytest
import torch

from rustorch_device import alias


def test_writes_show_on_both_sides():
    tensor = torch.zeros(2, 3)
    there = alias(tensor)
    assert there.device == torch.device("rustorch:0") and there.data_ptr() == tensor.data_ptr()
    there[0, 1] = 5
    tensor[1, 2] = 7
    assert there.tolist() == tensor.tolist() == [[0, 5, 0], [0, 0, 7]]


def test_both_ways_and_back_again():
    tensor = torch.arange(4.0)
    back = alias(alias(tensor))
    assert back.untyped_storage()._cdata == tensor.untyped_storage()._cdata
    there = torch.ones(3, device="rustorch")
    here = alias(there)
    assert here.numpy().tolist() == [1, 1, 1]
    assert alias(here).untyped_storage()._cdata == there.untyped_storage()._cdata


@pytest.mark.parametrize(
    "view",
    [lambda x: x[1:, 1:], lambda x: x.t(), lambda x: x[0].expand(3, 4), lambda x: x[2, 3], lambda x: x[:0]],
)
def test_views_keep_their_shape_and_offset(view):
    tensor = view(torch.arange(12.0).view(3, 4))
    there = alias(tensor)
    assert there.stride() == tensor.stride() and there.storage_offset() == tensor.storage_offset()
    assert torch.equal(there.cpu(), tensor)


@pytest.mark.parametrize("device", ["cpu", "rustorch"])
def test_the_alias_keeps_the_memory_alive(device):
    there = alias(torch.full((100_000,), 3.0).to(device))
    gc.collect()
    torch.rustorch.empty_cache()
    torch.ones(100_000).to(device)
    assert (there.cpu() == 3).all()


@pytest.mark.parametrize("device", ["cpu", "rustorch"])
def test_aliased_memory_stays_where_it_is(device):
    tensor = torch.ones(3, device=device)
    there = alias(tensor)
    # PyTorch gives a tensor its new size before it asks for the room: views of it are resized here.
    for resize in (
        lambda: tensor.detach().resize_(100),
        lambda: there.detach().resize_(100),
        lambda: tensor.untyped_storage().resize_(0),
    ):
        with pytest.raises(RuntimeError, match="not resizable"):
            resize()
    tensor.resize_(2).fill_(5)
    assert there.tolist() == [5, 5, 1]
    exported = torch.ones(3, device="rustorch")
    array = np.from_dlpack(exported)
    with pytest.raises(RuntimeError, match="not resizable"):
        exported.resize_(100)
    assert array.tolist() == [1, 1, 1]


def test_gradients_flow_both_ways():
    tensor = torch.ones(3, requires_grad=True)
    there = alias(tensor)
    here = alias(there + there)
    here.backward(torch.tensor([1.0, 2.0, 3.0]))
    assert tensor.grad.device.type == "cpu" and tensor.grad.tolist() == [2, 4, 6]
    with torch.no_grad():
        assert not alias(tensor).requires_grad
    assert alias(torch.nn.Parameter(torch.ones(2))).requires_grad


def test_lazy_conjugates_stay_lazy():
    tensor = torch.tensor([1 + 2j, 3 - 1j])
    assert torch.equal(alias(tensor.conj()).cpu(), tensor.conj())


def test_what_cannot_be_aliased_is_refused():
    with pytest.raises(RuntimeError, match="dense"):
        alias(torch.eye(2).to_sparse())
    with pytest.raises(RuntimeError, match="cpu or rustorch"):
        alias(torch.zeros(2, device="meta"))
