"""Storages that shrink, go and come back under their tensors: nothing outside of them is read or written."""

import copy

import numpy
import pytest
import torch

import rustorch_device

#: Bytes of 64 numbers, of which a tensor of 64 numbers may keep some, and a view in the middle none.
SIZES = {"freed": 0, "shrunk": 40}

READERS = {
    "a kernel": lambda x: x + 1,
    "a reduction": lambda x: x.sum(),
    "a strided kernel": lambda x: x[::2].exp(),
    "a product": lambda x: x @ x,
    "a clone": lambda x: x.clone(),
    "a copy to the cpu": lambda x: x.cpu(),
    "a copy from the cpu": lambda x: x.copy_(torch.zeros(64)),
    "a fill": lambda x: x.fill_(1),
    "zeros": lambda x: x.zero_(),
    "random numbers": lambda x: x.normal_(),
    "lists": lambda x: torch._foreach_add([x, x], 1),
    "cat": lambda x: torch.cat([x, x]),
    "an index": lambda x: x[torch.tensor([63], device="rustorch")],
    "a deep copy": lambda x: copy.deepcopy(x.expand(2, 64).clone()),
    "one element": lambda x: x[63].item(),
    "a list of numbers": lambda x: x.tolist(),
    "text": lambda x: repr(x),
    "the fallback": lambda x: torch.fft.rfft(x),
    "alias": lambda x: rustorch_device.alias(x),
    "numpy": lambda x: numpy.from_dlpack(x),
    "dlpack": lambda x: torch.from_dlpack(x),
    "a checkpoint": lambda x: rustorch_device.save_tensors("/nowhere/x", {"x": x}),
    "a step": lambda x: torch._fused_sgd_(
        [x], [torch.ones_like(x)], [], weight_decay=0, momentum=0, lr=0.1, dampening=0, nesterov=False, maximize=False,
        is_first_step=False,
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:rustorch has no Rust kernel")
@pytest.mark.parametrize("bytes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_what_reaches_past_its_storage_is_refused(read, bytes):
    torch.rustorch.set_fallback_policy("silent")
    x = torch.randn(64, device="rustorch")
    x.untyped_storage().resize_(bytes)
    assert x.device.type == x.untyped_storage().device.type == "rustorch"
    with pytest.raises(RuntimeError, match="out of bounds"):
        read(x)


@pytest.mark.parametrize("bytes", SIZES.values(), ids=SIZES)
def test_a_checkpoint_holds_no_others_memory(tmp_path, bytes):
    for device in ("rustorch", "cpu"):
        x = torch.randn(64, device=device)
        model = torch.nn.Linear(8, 8, bias=False, device=device)
        rustorch_device.save(tmp_path / "sound", model=model)
        for tensor in (x, model.weight):
            tensor.untyped_storage().resize_(bytes)
        with pytest.raises(RuntimeError, match="out of bounds"):
            rustorch_device.save_tensors(tmp_path / "x", {"x": x.view(8, 8).t()})
        with pytest.raises(RuntimeError, match="out of bounds"):
            rustorch_device.save(tmp_path / "x", model=model)
        with pytest.raises((RuntimeError, rustorch_device.checkpoint.CheckpointError), match="out of bounds"):
            rustorch_device.load(tmp_path / "sound", model=model)
    assert not (tmp_path / "x").exists()


def test_a_storage_that_was_freed_and_came_back_serves_its_views():
    """As FSDP frees parameters between their uses."""
    x = torch.randn(64, device="rustorch")
    view = x.view(8, 8)[1:3].t()
    storage = x.untyped_storage()
    for _ in range(3):
        storage.resize_(0)
        assert storage.nbytes() == 0 and storage.device.type == "rustorch"
        storage.resize_(64 * 4)
        x.copy_(torch.arange(64.0))
        assert torch.equal(view.cpu(), torch.arange(64.0).view(8, 8)[1:3].t())
        assert view.clone().device.type == view.device.type == "rustorch"
    storage.resize_(128 * 4)
    assert torch.equal(x.cpu(), torch.arange(64.0))


def test_a_storage_that_is_freed_gives_its_memory_back():
    x = torch.randn(1 << 16, device="rustorch")
    view, before = x[5:], torch.rustorch.memory_allocated()
    x.untyped_storage().resize_(0)
    assert torch.rustorch.memory_allocated() <= before - (4 << 16)
    # As FSDP does of what another stream still uses: here nothing does, once a call has returned.
    view.record_stream(torch.rustorch.current_stream())
    x.untyped_storage().resize_(4 << 16)
    assert torch.rustorch.memory_allocated() >= before
    assert torch.equal(view.fill_(2).cpu(), torch.full((view.numel(),), 2.0))


@pytest.mark.parametrize("device", ["cpu", "rustorch"])
def test_a_tensor_is_set_onto_a_part_of_a_gathered_buffer(device):
    """As FSDP makes parameters out of what it gathered: views come and go, and writes reach the buffer."""
    buffer = torch.arange(12.0, device=device)
    parameter = torch.nn.Parameter(torch.empty(0, device=device))
    with torch.no_grad():
        parameter.set_(buffer.untyped_storage(), 4, (2, 3), (3, 1))
    (parameter * 2).sum().backward()
    with torch.no_grad():
        parameter -= parameter.grad
    assert buffer.tolist() == [0, 1, 2, 3, 2, 3, 4, 5, 6, 7, 10, 11]
    version = parameter._version
    parameter.data = torch.ones(2, 3, device=device)
    assert parameter.grad.shape == (2, 3) and parameter._version == version
    assert buffer[4:10].tolist() == [2, 3, 4, 5, 6, 7]


def test_a_compiled_program_refuses_a_parameter_that_was_freed():
    linear = torch.nn.Linear(4, 4).to("rustorch")
    compiled = torch.compile(linear, backend="rust_backend")
    x = torch.randn(3, 4, device="rustorch")
    expected = compiled(x)
    kept = linear.weight.detach().clone()
    linear.weight.untyped_storage().resize_(0)
    with pytest.raises(Exception, match="out of bounds"):
        compiled(x)
    linear.weight.untyped_storage().resize_(64)
    linear.weight.data.copy_(kept)
    assert torch.equal(compiled(x), expected)
