"""Tensors, values and files of others: what goes in comes out, and what cannot is refused by name."""

import json
import math
import re
import struct
from collections import Counter, OrderedDict, defaultdict, deque

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import rustorch_device
from rustorch_device import checkpoint
from rustorch_device.checkpoint import CheckpointError
from rustorch_device.checkpoint._tensors import BYTES, PAIRS, STORED

DEVICES = ["rustorch", "cpu"]


def bits(tensor: torch.Tensor) -> bytes:
    tensor = rustorch_device.alias(tensor) if tensor.device.type == "rustorch" else tensor
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def back(tmp_path, tensors, **options):
    rustorch_device.save_tensors(tmp_path / "a.safetensors", tensors)
    return rustorch_device.load_tensors(tmp_path / "a.safetensors", **options)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [*STORED, *PAIRS, *BYTES], ids=str)
def test_every_type_and_hostile_shapes(tmp_path, dtype, device, mmap):
    made = {}
    for at, shape in enumerate([(), (0,), (3, 0, 2), (1,), (7,), (5, 1, 13)]):
        count = math.prod(shape) * dtype.itemsize
        raw = torch.randint(0, 2 if dtype == torch.bool else 256, (count,), dtype=torch.uint8)
        made[f"{at}"] = raw.view(dtype).view(shape)
    if device == "rustorch":
        made = {name: rustorch_device.alias(tensor) for name, tensor in made.items()}
    loaded = back(tmp_path, made, mmap=mmap)
    assert list(loaded) == list(made)
    for name, tensor in made.items():
        found = loaded[name]
        assert (found.dtype, found.shape, found.device) == (tensor.dtype, tensor.shape, tensor.device)
        assert bits(found) == bits(tensor)
        assert found.stride() == tensor.stride()


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_strides_and_shared_memory(tmp_path, device, mmap):
    base = torch.arange(60.0, device=device)
    made = {
        "transposed": torch.arange(12, device=device).view(3, 4).t(),
        "channels_last": torch.arange(120.0).view(2, 3, 4, 5).to(memory_format=torch.channels_last).to(device),
        "stepped": torch.arange(20.0, device=device)[1::3],
        "far": torch.arange(100000.0, device=device)[::1000],
        "expanded": torch.arange(3.0, device=device).view(3, 1).expand(3, 4),
        "base": base,
        "part": base[7:31].view(4, 6).t(),
        "same": base.view(60),
        "ints": base.view(torch.int32)[5:9],
        "windows": torch.arange(10.0, device=device).unfold(0, 4, 2),
    }
    for device_now in (None, "cpu", "rustorch"):
        loaded = back(tmp_path, made, device=device_now, mmap=mmap)
        for name, tensor in made.items():
            assert bits(loaded[name]) == bits(tensor), name
            assert loaded[name].device.type == (device_now or device)
            if name != "far":
                assert loaded[name].stride() == tensor.stride(), name
        # A tensor of which almost nothing is used does not bring its gaps along.
        assert loaded["far"].is_contiguous()
        loaded["base"][8] = 99
        assert loaded["part"][1, 0] == 99 and loaded["same"][8] == 99
        assert loaded["ints"][3] == loaded["base"].view(torch.int32)[8]
        loaded["expanded"][0, 0] = 5
        assert loaded["expanded"][0, 3] == 5


def test_tied_tensors_are_stored_once(tmp_path):
    tied = torch.ones(1000)
    loaded = back(tmp_path, {"a": tied, "b": tied, "c": tied.detach()})
    assert len({tensor.data_ptr() for tensor in loaded.values()}) == 1
    assert (tmp_path / "a.safetensors").stat().st_size < 6000


def test_conjugates_and_bytes_that_are_no_booleans(tmp_path):
    made = {"conj": torch.tensor([1 + 2j]).conj(), "flags": torch.tensor([0, 7], dtype=torch.uint8).view(torch.bool)}
    loaded = back(tmp_path, made)
    assert loaded["conj"].item() == 1 - 2j and loaded["flags"].tolist() == [False, True]


@pytest.mark.parametrize(
    "wrong",
    [
        torch.ones(2).to_sparse(),
        torch.ones(2, device="meta"),
        torch.nested.nested_tensor([torch.ones(2)]),
        torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "meta", "nested", "quantized"],
)
def test_other_tensors_are_refused(tmp_path, wrong):
    with pytest.raises(TypeError, match="odd"):
        rustorch_device.save_tensors(tmp_path / "a", {"odd": wrong})
    with pytest.raises(TypeError, match="expected tensors"):
        rustorch_device.save_tensors(tmp_path / "a", {"x": 1})
    assert not (tmp_path / "a").exists()


# Values.


def value_back(tmp_path, value):
    rustorch_device.save(tmp_path / "v.safetensors", extra=value, rng=False)
    return rustorch_device.load(tmp_path / "v.safetensors").extra


def same(one, other) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, (torch.Tensor, numpy.ndarray, numpy.generic)):
        return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", other)
    if isinstance(one, complex):
        return same([one.real, one.imag], [other.real, other.imag])
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, (list, tuple, deque)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


VALUES = [
    None,
    True,
    0,
    -(2**63),
    2**200,
    -0.0,
    5e-324,
    math.inf,
    struct.unpack(">d", bytes.fromhex("7ff8000000000abc"))[0],
    1e308 + 1j,
    "é\0\U0001f980",
    b"\0\xff",
    (),
    (1, [2, (3,)]),
    {1, 2},
    frozenset({(1, 2)}),
    {1: "int", "1": "str", (2, 3): None, None: 1.5, False: 0, 2.5: 1},
    {"$tensor": "no tensor", "plain": 1},
    OrderedDict(b=1, a=2),
    Counter({3: 2}),
    defaultdict(list, {"a": [1]}),
    deque([1, 2], maxlen=5),
    torch.Size([2, 3]),
    torch.bfloat16,
    torch.device("rustorch:0"),
    numpy.arange(6, dtype=">i4").reshape(2, 3)[:, ::-1].astype("i4"),
    numpy.float64(0.1),
    numpy.uint8(200),
    numpy.bool_(True),
    numpy.zeros((0, 3)),
    [torch.ones(2), nn.Parameter(torch.ones(2), requires_grad=False)],
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_come_back_as_they_were(tmp_path, value):
    assert same(value_back(tmp_path, value), value)
    assert same(value_back(tmp_path, {"in": [value]}), {"in": [value]})


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers()
keys = st.text() | st.integers() | st.tuples(st.integers(), st.text())
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner) | st.sets(st.integers()),
)


@given(value=values)
def test_any_value_comes_back(tmp_path_factory, value):
    assert same(value_back(tmp_path_factory.getbasetemp(), value), value)


def deep(levels):
    value = []
    for _ in range(levels):
        value = {0: value}
    return value


def test_nesting(tmp_path):
    assert value_back(tmp_path, deep(30)) == deep(30)
    endless = []
    endless.append(endless)
    for value in (deep(100), endless):
        with pytest.raises(ValueError, match="nested deeper"):
            value_back(tmp_path, value)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (object(), r"extra\.a\.0 is a builtins\.object"),
        (lambda: 0, "function"),
        (torch.Generator(), "Generator"),
        (nn.Linear(1, 1), "Linear"),
        (numpy.array(["text"]), "NumPy array"),
        (type("Subclass", (dict,), {})(), "Subclass"),
        (range(3), "range"),
    ],
)
def test_other_values_are_refused_by_name(tmp_path, wrong, reason):
    with pytest.raises(TypeError, match=reason):
        rustorch_device.save(tmp_path / "a", extra={"a": [wrong]})
    with pytest.raises(ValueError, match="UTF-8"):
        rustorch_device.save(tmp_path / "a", extra="\ud800")
    assert not (tmp_path / "a").exists()


# Files of others, and hostile ones.


def write_plain(path, tensors: dict[str, torch.Tensor], metadata=None) -> None:
    """A safetensors file as its specification has it, without our writer."""
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name, tensor in tensors.items():
        raw = bits(tensor)
        header[name] = {
            "dtype": STORED[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_plain_and_sharded_files_of_others(tmp_path, device, mmap):
    saved = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    saved.tied = saved[0]
    # Hugging Face's writer leaves out all but one of tied tensors, and old files lack the count of batches.
    state = dict(saved.state_dict())
    del state["tied.weight"], state["tied.bias"], state["1.num_batches_tracked"]
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to(device)
    model.tied = model[0]
    write_plain(tmp_path / "model.safetensors", state, {"format": "pt"})
    rustorch_device.load(tmp_path, model=model, mmap=mmap)
    assert torch.equal(model[0].weight.cpu(), saved[0].weight) and model.tied.weight is model[0].weight

    (tmp_path / "model.safetensors").unlink()
    names = list(state)
    write_plain(tmp_path / "1.safetensors", {name: state[name] for name in names[:2]})
    write_plain(
        tmp_path / "2.safetensors", {"odd": torch.ones(1, dtype=torch.uint8)} | {n: state[n] for n in names[2:]}
    )
    shards = {name: "1.safetensors" if at < 2 else "2.safetensors" for at, name in enumerate(names)}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": shards}))
    nn.init.zeros_(model[0].weight)
    rustorch_device.load(tmp_path, model=model, mmap=mmap)
    assert torch.equal(model[0].weight.cpu(), saved[0].weight)
    loaded = rustorch_device.load_tensors(index, names=["1.running_var"], device=device, mmap=mmap)
    assert torch.equal(loaded["1.running_var"].cpu(), saved[1].running_var)
    assert rustorch_device.inspect(index).version == "0.0"
    with pytest.raises(KeyError, match="nothing"):
        rustorch_device.load_tensors(index, names=["nothing"])
    index.write_text(json.dumps({"weight_map": {"x": "../1.safetensors"}}))
    with pytest.raises(CheckpointError, match="not the name of a file beside it"):
        rustorch_device.load_tensors(tmp_path)


def with_state(path, state: str, tensors=None) -> None:
    """A file whose header and checksums are right, whatever its state says."""
    rustorch_device._C.checkpoint_write(str(path), "a test", tensors or [], state)


HOSTILE = [
    "",
    "3",
    "[]",
    "{}",
    "not JSON",
    '{"notes": 1}',
    '{"notes": {"x": {"dtype": 3}}, "extra": null}',
    '{"notes": {}, "extra": NaN}',
    '{"notes": {}, "notes": {}}',
    '{"notes": {}, "extra": {"$tensor": "absent"}}',
    '{"notes": {}, "extra": {"$tensor": ["x"]}}',
    '{"notes": {}, "extra": {"$import": "os"}}',
    '{"notes": {}, "extra": {"$tuple": 3}}',
    '{"notes": {}, "extra": {"$tuple": [], "$set": []}}',
    '{"notes": {}, "extra": {"$set": [[1]]}}',
    '{"notes": {}, "extra": {"$dict": [[[], 1]]}}',
    '{"notes": {}, "extra": {"$dtype": "load"}}',
    '{"notes": {}, "extra": {"$device": "no such device"}}',
    '{"notes": {}, "extra": {"$int": "x"}}',
    '{"notes": {}, "extra": {"$float": "00"}}',
    '{"notes": {}, "extra": {"$bytes": "%"}}',
    '{"notes": {}, "extra": {"$defaultdict": ["object", []]}}',
    '{"notes": {}, "extra": ' + "[" * 5000 + "]" * 5000 + "}",
    '{"notes": {}, "rng": {"cpu": 1}}',
    '{"notes": {}, "rng": {"cpu": {"$tensor": "x"}, "rustorch": {"$tensor": "x"}, "python": 3}}',
    '{"notes": {"x": {"dtype": "complex128"}}, "extra": {"$tensor": "x"}}',
    '{"notes": {"x": {"device": "moon"}}, "extra": {"$tensor": "x"}}',
]


@pytest.mark.parametrize("state", HOSTILE[1:], ids=range(1, len(HOSTILE)))
def test_a_hostile_state_is_refused(tmp_path, state):
    path = tmp_path / "a.safetensors"
    with_state(path, state, [("x", "U8", torch.zeros(3, dtype=torch.uint8), None)])
    before = torch.get_rng_state()
    with pytest.raises(CheckpointError, match=r"a\.safetensors|generators"):
        rustorch_device.load(path, rng=True)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_newer_version_is_refused(tmp_path):
    metadata = {"rustorch": json.dumps({"version": "2.0"}), "rustorch.header_crc32": "00000000"}
    write_plain(tmp_path / "a", {}, metadata)
    with pytest.raises(CheckpointError, match=r"format version 2.0, and this release reads versions up to 1\.x"):
        rustorch_device.load(tmp_path / "a")


def test_the_table(tmp_path, python):
    path = tmp_path / "a.safetensors"
    rustorch_device.save(
        path, model=nn.Linear(2, 3), step=5, extra={"x": torch.ones(2, 2).t(), "z": torch.ones(1) * 1j}
    )
    found = rustorch_device.inspect(path)
    assert found.step == 5 and found.parts == ("model", "rng", "extra") and found.version == "1.0"
    assert found.bytes == path.stat().st_size
    rows = {tensor.name: tensor for tensor in found.tensors}
    assert rows["weight"].shape == (3, 2) and rows["weight"].dtype == "float32" and rows["weight"].bytes == 24
    assert rows["extra.z"].dtype == "complex64"
    script = f"import sys; sys.argv = ['', 'COMMAND', {str(path)!r}]; import runpy; "
    script += "runpy.run_module('rustorch_device.checkpoint', run_name='__main__')"
    shown = python(script.replace("COMMAND", "inspect"))
    assert shown.returncode == 0, shown.stderr
    assert str(found) in shown.stdout and re.search(r"weight +float32 +\[3, 2\] +24 ", shown.stdout)
    assert "tensors are as they were written" in python(script.replace("COMMAND", "verify")).stdout
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    damaged = python(script.replace("COMMAND", "verify"))
    assert damaged.returncode == 1 and "have changed" in damaged.stderr
    path.unlink()
    assert "No such file" in python(script.replace("COMMAND", "inspect")).stderr


def test_verify(tmp_path):
    rustorch_device.save_tensors(tmp_path / "a", {"x": torch.ones(3), "y": torch.ones(2)})
    assert checkpoint.verify(tmp_path / "a") == 2
    write_plain(tmp_path / "b", {"x": torch.ones(3)})
    assert checkpoint.verify(tmp_path / "b") == 0
