"""The device's memory in other hands: NumPy, DLPack, other processes."""

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from rustorch_device import alias

pytestmark = [
    pytest.mark.allow_fallback,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
DEVICE = torch.device("rustorch", 0)


def test_numpy_arrays_share_memory_both_ways():
    array = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    there = alias(torch.from_numpy(array))
    there.mul_(2)
    array[0, 0] = 7
    assert there.tolist() == [[7, 2, 4], [6, 8, 10]]
    tensor = torch.ones(2, 2, device=DEVICE)
    seen = alias(tensor).numpy()
    seen[0, 1] = 5
    assert tensor.tolist() == [[1, 5], [1, 1]]
    assert np.shares_memory(alias(tensor).numpy(), seen)


@pytest.mark.parametrize(
    "view", [lambda x: x, lambda x: x.t(), lambda x: x[1:, ::2], lambda x: x[0, 0], lambda x: x[:0]]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8, torch.bool])
def test_dlpack_hands_out_the_memory(view, dtype):
    tensor = view(torch.arange(12).view(3, 4).to(dtype).to(DEVICE))
    assert tensor.__dlpack_device__() == (torch.utils.dlpack.DLDeviceType.kDLCPU, 0)
    array = np.from_dlpack(tensor)
    assert array.tolist() == tensor.tolist()
    assert array.size == 0 or array.__array_interface__["data"][0] == tensor.data_ptr()
    host = torch.from_dlpack(tensor)
    assert host.device.type == "cpu" and host.stride() == tensor.stride() and host.data_ptr() == tensor.data_ptr()
    assert torch.from_dlpack(tensor, device="rustorch").device == DEVICE


def test_dlpack_comes_in_without_a_copy():
    array = np.zeros(3, dtype=np.float32)
    there = alias(torch.from_dlpack(array))
    there.add_(1)
    assert array.tolist() == [1, 1, 1]
    copied = torch.from_dlpack(there, copy=True)
    copied.zero_()
    assert array.tolist() == [1, 1, 1]


def test_dlpack_refuses_what_it_cannot_say():
    tensor = torch.ones(2, device=DEVICE)
    with pytest.raises(BufferError, match="gradient"):
        torch.from_dlpack(tensor.clone().requires_grad_())
    with pytest.raises(BufferError, match="conjugate"):
        torch.from_dlpack(torch.ones(2, dtype=torch.complex64, device=DEVICE).conj())
    assert torch.from_dlpack(torch.ones(2)).tolist() == [1, 1]


def test_share_memory_moves_every_view():
    tensor = torch.arange(4.0, device=DEVICE)
    view, host = tensor[1:], alias(tensor)
    assert not tensor.is_shared()
    assert tensor.share_memory_() is tensor and tensor.is_shared() and view.is_shared()
    view.mul_(10)
    assert tensor.tolist() == [0, 10, 20, 30] and alias(tensor).is_shared()
    assert host.tolist() == [0, 1, 2, 3], "an alias made before keeps the former memory"
    address = tensor.data_ptr()
    assert tensor.share_memory_().data_ptr() == address
    empty = torch.empty(0, device=DEVICE).share_memory_()
    assert empty.device == DEVICE and not torch.ones(1).is_shared()


def double(tensor, done):
    tensor.mul_(2)
    done.put(tensor.device.type)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_writes_to_shared_memory(method):
    context = mp.get_context(method)
    done = context.Queue()
    tensor = torch.arange(3.0, device=DEVICE).share_memory_()
    child = context.Process(target=double, args=(tensor, done))
    child.start()
    assert done.get(timeout=120) == "rustorch"
    child.join()
    assert tensor.tolist() == [0, 2, 4]


def answer(inbox, outbox):
    tensors = inbox.get(timeout=120)
    tensors["whole"].add_(1)
    outbox.put([tensors["part"].clone(), tensors["parameter"], tensors["empty"]])
    inbox.get(timeout=120)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_queues_carry_tensors(method):
    context = mp.get_context(method)
    inbox, outbox = context.Queue(), context.Queue()
    child = context.Process(target=answer, args=(inbox, outbox))
    child.start()
    whole = torch.arange(6, dtype=torch.int32, device=DEVICE).view(2, 3)
    parameter = nn.Parameter(torch.tensor([1.5], device=DEVICE))
    empty = torch.empty(0, 2, device=DEVICE)
    inbox.put({"whole": whole, "part": whole.t()[1], "parameter": parameter, "empty": empty})
    part, returned, nothing = outbox.get(timeout=120)
    assert part.device == DEVICE and part.tolist() == [2, 5]
    assert whole.tolist() == [[1, 2, 3], [4, 5, 6]], "the memory is the same in both processes"
    assert isinstance(returned, nn.Parameter) and returned.requires_grad and returned.tolist() == [1.5]
    assert nothing.device == DEVICE and nothing.shape == (0, 2)
    inbox.put(None)
    child.join()


@pytest.mark.parametrize("pin_memory", [False, True])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loaders_bring_every_batch(method, pin_memory):
    data = TensorDataset(torch.arange(20.0).view(10, 2), torch.arange(10))
    loader = DataLoader(data, batch_size=3, num_workers=2, pin_memory=pin_memory, multiprocessing_context=method)
    seen = []
    for values, labels in loader:
        assert values.is_pinned() == pin_memory
        there = values.to(DEVICE, non_blocking=True)
        assert torch.equal(there.cpu(), values)
        seen += labels.to(DEVICE).tolist()
    assert seen == list(range(10))
