"""The device as programs see it: names, creation, views, printing, state."""

import copy
import io
import pickle
import time

import pytest
import torch
from torch import nn

DEVICE = torch.device("rustorch", 0)


def test_the_device_has_its_names():
    assert torch.rustorch.is_available() and torch.rustorch.is_initialized()
    assert torch.accelerator.current_accelerator() == torch.device("rustorch")
    assert torch.accelerator.device_count() == torch.rustorch.device_count() == 1
    assert torch.rustorch.current_device() == torch.accelerator.current_device_index() == 0
    assert torch.zeros(1, device="rustorch").is_rustorch
    assert torch.zeros(1).rustorch().device == DEVICE
    assert not torch.rustorch._is_in_bad_fork()
    assert torch.bfloat16 in torch.rustorch.get_amp_supported_dtype()
    properties = torch.rustorch.get_device_properties()
    assert properties.total_memory > 0 and properties.simd_level in ("scalar", "avx2", "avx512")
    with torch.rustorch.device(0), torch.rustorch.device_of(torch.zeros(1, device="rustorch")):
        assert torch.rustorch.current_device() == 0
    dtypes = torch.accelerator.get_device_capability()["supported_dtypes"]
    assert {torch.float32, torch.bfloat16, torch.int64, torch.uint16, torch.complex64, torch.float8_e4m3fn} <= dtypes
    assert not {torch.quint8, torch.qint32, torch.int3, torch.bits8} & dtypes
    torch.rustorch.set_device("rustorch:0")
    torch.rustorch.synchronize()
    torch.accelerator.synchronize()


@pytest.mark.parametrize("wrong", ["rustorch:1", 3])
def test_there_is_one_device(wrong):
    with pytest.raises(RuntimeError, match="one device"):
        torch.rustorch.set_device(wrong)
    with pytest.raises(RuntimeError, match="one device"):
        torch.zeros(1, device=torch.device("rustorch", 1))
    with pytest.raises(RuntimeError, match="one device"):
        torch.accelerator.current_stream(4)
    with pytest.raises(RuntimeError, match="one device"):
        torch.accelerator.get_device_capability(4)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool, torch.bfloat16, torch.complex64])
def test_creation(shape, dtype):
    for make in (torch.empty, torch.zeros, torch.ones):
        tensor = make(shape, dtype=dtype, device="rustorch")
        assert tensor.device == DEVICE and tensor.dtype == dtype and tensor.shape == shape
        if make is not torch.empty:
            assert torch.equal(tensor.cpu(), make(shape, dtype=dtype))
    assert torch.equal(torch.full(shape, 1, dtype=dtype, device="rustorch").cpu(), torch.full(shape, 1, dtype=dtype))
    assert torch.zeros(shape, device="rustorch").new_ones(2).device == DEVICE


def test_memory_formats():
    tensor = torch.empty(2, 3, 4, 5, device="rustorch", memory_format=torch.channels_last)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert torch.empty_like(tensor).stride() == tensor.stride()
    assert torch.empty_strided((2, 3), (1, 2), device="rustorch").stride() == (1, 2)


def test_deterministic_fill():
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3, device="rustorch").cpu().isnan().all()
        assert (torch.empty(3, dtype=torch.int32, device="rustorch").cpu() == 2**31 - 1).all()
    finally:
        torch.use_deterministic_algorithms(False)


def test_deterministic_without_filling():
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        kept = torch.ones(1000, device="rustorch")
        del kept
        assert not torch.empty(1000, device="rustorch").isnan().any()
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = True
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8])
@pytest.mark.parametrize(
    "divide",
    [
        lambda a, b: a // b,
        lambda a, b: a % b,
        lambda a, b: torch.div(a, b, rounding_mode="trunc"),
        lambda a, b: torch.fmod(a, b),
        lambda a, b: a // 0,
        lambda a, b: a % 0,
        lambda a, b: a.clone().floor_divide_(b),
        lambda a, b: torch.div(a, b).isinf(),
    ],
)
def test_integers_divided_by_zero(divide, dtype):
    outcomes = []
    for device in ("cpu", "rustorch"):
        values = torch.arange(1, 20, device=device).to(dtype)
        try:
            outcomes.append(divide(values, torch.zeros_like(values)).tolist())
        except RuntimeError as error:
            outcomes.append((type(error), "ZeroDivisionError" in str(error)))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("dtype", "value"), [(torch.uint8, 300), (torch.float32, 1e300), (torch.int64, 2.7), (torch.bool, 0.5)]
)
def test_fill_takes_what_the_cpu_takes(dtype, value):
    def fill(device):
        try:
            return torch.empty(3, dtype=dtype, device=device).fill_(value).tolist()
        except RuntimeError as error:
            return str(error)

    assert fill("rustorch") == fill("cpu")


def test_fill_with_a_tensor_and_of_a_view():
    tensor = torch.zeros(3, 4, device="rustorch")
    tensor.t()[1].fill_(torch.tensor(2.0, device="rustorch"))
    tensor[0].fill_(torch.tensor(3.0))
    tensor[2, 1:].zero_()
    assert tensor.tolist() == [[3, 3, 3, 3], [0, 2, 0, 0], [0, 0, 0, 0]]


VIEWS = {
    "view": lambda x: x.view(4, 6),
    "reshape": lambda x: x.reshape(-1),
    "transpose": lambda x: x.transpose(0, 2),
    "permute": lambda x: x.permute(2, 0, 1),
    "slice": lambda x: x[1, ::2, 1:],
    "select": lambda x: x.select(1, -1),
    "narrow": lambda x: x.narrow(2, 1, 2),
    "unfold": lambda x: x.unfold(2, 2, 1),
    "expand": lambda x: x[:, :1].expand(2, 5, 4),
    "as_strided": lambda x: x.as_strided((3, 2), (5, 1), 2),
    "diagonal": lambda x: x.diagonal(0, 0, 1),
    "split": lambda x: x.split(2, 2)[1],
    "unbind": lambda x: x.unbind(1)[2],
    "squeeze": lambda x: x.unsqueeze(1).squeeze(1),
    "view_dtype": lambda x: x.view(torch.int32),
    "detach": lambda x: x.detach(),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_share_memory(name):
    base = torch.arange(24.0).view(2, 3, 4)
    expected = VIEWS[name](base)
    device_base = base.to("rustorch")
    view = VIEWS[name](device_base)
    assert view.stride() == expected.stride() and view.storage_offset() == expected.storage_offset()
    assert view.untyped_storage().data_ptr() == device_base.untyped_storage().data_ptr()
    assert torch.equal(view.cpu(), expected)
    if name != "expand":
        view.zero_()
        expected.zero_()
        assert torch.equal(device_base.cpu(), base)


def test_complex_views():
    real = torch.arange(8.0).view(2, 2, 2)
    tensor = torch.view_as_complex(real.to("rustorch"))
    assert torch.equal(tensor.cpu(), torch.view_as_complex(real))
    assert torch.equal(torch.view_as_real(tensor).cpu(), real)
    assert torch.equal(tensor.imag.cpu(), real[..., 1])


def test_a_view_written_in_place_moves_its_base_version():
    base = torch.zeros(4, device="rustorch")
    base[1:3].fill_(1)
    assert base._version == 1
    assert base.tolist() == [0, 1, 1, 0]


def test_resize_and_set():
    tensor = torch.arange(4.0).to("rustorch")
    tensor.resize_(2, 3)
    assert tensor.shape == (2, 3) and tensor.flatten()[:4].tolist() == [0, 1, 2, 3]
    storage = torch.arange(6.0).to("rustorch").untyped_storage()
    other = torch.empty(0, device="rustorch").set_(storage, 1, (2, 2), (2, 1))
    assert other.tolist() == [[1, 2], [3, 4]]
    assert other.is_set_to(torch.empty(0, device="rustorch").set_(other))
    assert torch.zeros(3, device="rustorch").set_().shape == (0,)
    storage.resize_(64)
    assert storage.nbytes() == 64 and storage.device == DEVICE
    assert torch.equal(torch.empty(0, device="rustorch").set_(storage, 0, (6,)).cpu(), torch.arange(6.0))


def test_named_constructors_from_data():
    assert torch.tensor([[1, 2], [3, 4]], device="rustorch").tolist() == [[1, 2], [3, 4]]
    assert torch.as_tensor([1.5], device="rustorch").item() == 1.5
    assert float(torch.tensor(2.5, device="rustorch")) == 2.5
    assert int(torch.tensor(7, device="rustorch")) == 7
    assert bool(torch.tensor(True, device="rustorch"))
    assert torch.tensor(1 + 2j, device="rustorch").item() == 1 + 2j


def test_numpy_asks_for_the_cpu():
    tensor = torch.ones(2, device="rustorch")
    with pytest.raises(TypeError, match="rustorch"):
        tensor.numpy()
    assert tensor.cpu().numpy().tolist() == [1, 1]


def test_printing(allow_fallback):
    text = repr(torch.tensor([1.0, 2.5, float("nan")], device="rustorch"))
    assert text == "tensor([1.0000, 2.5000,    nan], device='rustorch:0')"
    assert repr(torch.empty(0, device="rustorch")) == "tensor([], device='rustorch:0')"
    assert "..." in repr(torch.zeros(2000, device="rustorch"))
    assert "grad_fn" in repr(torch.ones(2, device="rustorch", requires_grad=True) * 2)
    assert "1.+0.j" in repr(torch.ones(2, dtype=torch.complex64, device="rustorch"))


def test_modules_move_and_keep_their_parameters():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    parameters = list(module.parameters())
    weight = parameters[0].detach().clone()
    module.to("rustorch")
    assert [id(p) for p in module.parameters()] == [id(p) for p in parameters]
    assert all(tensor.device == DEVICE for tensor in module.state_dict().values())
    assert torch.equal(parameters[0].detach().cpu(), weight)
    module.cpu()
    assert [id(p) for p in module.parameters()] == [id(p) for p in parameters]
    assert parameters[0].device.type == "cpu"
    assert nn.Linear(2, 2, device="meta").to_empty(device="rustorch").weight.device == DEVICE


def test_set_data_across_devices():
    tensor = torch.zeros(3, requires_grad=True)
    tensor.data = torch.ones(3, device="rustorch")
    assert tensor.device == DEVICE and tensor.tolist() == [1, 1, 1]


@pytest.mark.parametrize("save_format", ["torch.save", "legacy", "pickle", "deepcopy"])
def test_saving(save_format):
    tensor = torch.arange(6.0).view(2, 3).to("rustorch")
    state = {"whole": tensor, "view": tensor[1], "parameter": nn.Parameter(tensor.clone())}
    if save_format == "deepcopy":
        back = copy.deepcopy(state)
    elif save_format == "pickle":
        back = pickle.loads(pickle.dumps(state))
    else:
        buffer = io.BytesIO()
        torch.save(state, buffer, _use_new_zipfile_serialization=save_format == "torch.save")
        back = torch.load(io.BytesIO(buffer.getvalue()))
        on_cpu = torch.load(io.BytesIO(buffer.getvalue()), map_location="cpu")
        assert on_cpu["whole"].device.type == "cpu" and torch.equal(on_cpu["whole"], tensor.cpu())
    assert all(value.device == DEVICE for value in back.values())
    assert torch.equal(back["view"].cpu(), tensor[1].cpu())
    back["whole"].zero_()
    if save_format != "pickle":
        assert back["view"].tolist() == [0, 0, 0]
    assert isinstance(back["parameter"], nn.Parameter)


def test_load_maps_onto_the_device():
    buffer = io.BytesIO()
    torch.save(torch.ones(2), buffer)
    buffer.seek(0)
    assert torch.load(buffer, map_location="rustorch").device == DEVICE


def test_streams_and_events():
    stream = torch.rustorch.Stream(priority=-1)
    assert stream.device == DEVICE and stream.query()
    before = torch.rustorch.current_stream()
    with torch.rustorch.stream(stream):
        assert torch.rustorch.current_stream() == stream
    assert torch.rustorch.current_stream() == before == torch.rustorch.default_stream()
    start, end = torch.rustorch.Event(enable_timing=True), torch.Event("rustorch", enable_timing=True)
    start.record()
    torch.ones(1000, device="rustorch").add_(1)
    end.record()
    end.synchronize()
    assert end.query() and 0 < start.elapsed_time(end) < 60_000
    time.sleep(0.02)
    later = stream.record_event(torch.Event("rustorch", enable_timing=True))
    assert start.elapsed_time(later) >= 20
    stream.wait_event(start)
    stream.wait_stream(before)
    torch.ones(1, device="rustorch").record_stream(stream)


def test_under_a_default_device():
    with torch.device("rustorch"):
        assert torch.zeros(2).device == DEVICE
        assert torch.tensor([1, 2]).device == DEVICE


def test_the_default_device():
    torch.set_default_device("rustorch")
    try:
        assert torch.get_default_device() == DEVICE
        made = torch.zeros(2), torch.tensor([1, 2]), torch.arange(3), torch.randn(2), torch.eye(2), torch.full((2,), 1)
        assert all(tensor.device == DEVICE for tensor in made)
        assert nn.Linear(2, 2).weight.device == DEVICE
        assert torch.zeros(2, device="cpu").device.type == "cpu"
    finally:
        torch.set_default_device(None)
    assert torch.zeros(2).device.type == "cpu"


def test_the_accelerator():
    accelerator = torch.accelerator
    assert accelerator.is_available()
    with accelerator.device_index(0):
        assert accelerator.current_device_index() == 0
    accelerator.set_device_index(0)
    stream = accelerator.current_stream()
    accelerator.set_stream(stream)
    assert accelerator.current_stream() == stream and stream.device == DEVICE
    before = accelerator.memory_allocated()
    tensor = torch.ones(1 << 16, device="rustorch")
    assert accelerator.memory_allocated() - before >= tensor.nbytes
    assert accelerator.max_memory_allocated() >= accelerator.memory_allocated()
    assert accelerator.memory_reserved() >= accelerator.memory_allocated()
    assert accelerator.max_memory_reserved() >= accelerator.memory_reserved()
    assert accelerator.memory_stats()["allocated_bytes.all.current"] == accelerator.memory_allocated()
    del tensor
    assert accelerator.memory_allocated() == before
    accelerator.reset_peak_memory_stats()
    assert accelerator.max_memory_allocated() == before
    accelerator.reset_accumulated_memory_stats()
    accelerator.empty_cache()
    free, total = accelerator.get_memory_info()
    assert 0 < free <= total
    assert torch.get_device_module() is torch.get_device_module("rustorch") is torch.rustorch


def test_fake_tensors():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        tensor = torch.empty(2, 3, device="rustorch")
        assert (tensor + tensor).device == DEVICE


def test_errors_of_the_door_are_exceptions():
    from rustorch_device import _C

    with pytest.raises(RuntimeError, match="a Rust kernel panicked: on purpose"):
        _C.debug_panic("on purpose")
    with pytest.raises(RuntimeError, match=r"must match the size|broadcast"):
        torch.ones(3, device="rustorch") + torch.ones(4, device="rustorch")
    with pytest.raises(RuntimeError, match="at least two devices, rustorch:0 and cpu"):
        torch.ones(3, device="rustorch") + torch.ones(3)
    assert (torch.ones(3, device="rustorch") + torch.tensor(1.0)).tolist() == [2, 2, 2]
