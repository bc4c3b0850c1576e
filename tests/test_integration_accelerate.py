"""accelerate on the device, through `rustorch_device.integrations.accelerate`."""

import pytest
import torch
from torch import nn

accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed: `make libraries` installs it")

from accelerate.state import AcceleratorState, PartialState  # noqa: E402

import rustorch_device.integrations.accelerate  # noqa: E402

DATA = [(torch.randn(4, generator=torch.Generator().manual_seed(index)), index % 3) for index in range(24)]


@pytest.fixture(autouse=True)
def fresh_state():
    AcceleratorState._reset_state(reset_partial_state=True)
    torch._dynamo.reset()
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def train(accelerator, epochs: int = 1, folder=None, resume=None, dropout: float = 0.0):
    """Trains a small model; saves after the first epoch to `folder`, or goes on from `resume`."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    loader = torch.utils.data.DataLoader(DATA, batch_size=8)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    if resume is not None:
        accelerator.load_state(str(resume))
    for epoch in range(epochs):
        for inputs, labels in loader:
            optimizer.zero_grad()
            with accelerator.autocast():
                loss = nn.functional.cross_entropy(model(inputs), labels)
            accelerator.backward(loss)
            optimizer.step()
        if folder is not None and epoch == 0:
            accelerator.save_state(str(folder))
    weights = accelerator.unwrap_model(model).state_dict()
    return {name.removeprefix("_orig_mod."): value for name, value in weights.items()}


def assert_same(ours, theirs, **tolerance) -> None:
    assert {value.device.type for value in ours.values()} == {"rustorch"}
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name].cpu(), value.cpu(), **tolerance)


def on_cpu():
    weights = train(accelerate.Accelerator(cpu=True))
    AcceleratorState._reset_state(reset_partial_state=True)
    return weights


@pytest.mark.parametrize("backend", ["no", "rust_backend"])
def test_training_is_the_cpus(backend):
    expected = on_cpu()
    accelerator = accelerate.Accelerator(dynamo_backend=backend)
    assert accelerator.device.type == "rustorch"
    assert accelerator.state.dynamo_plugin.to_dict()["backend"] == backend
    assert_same(train(accelerator), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision(precision):
    expected = on_cpu()
    accelerator = accelerate.Accelerator(mixed_precision=precision)
    assert accelerator.mixed_precision == precision
    seen = []
    product = torch.ones(2, 2, device=accelerator.device)
    with accelerator.autocast():
        seen.append((product @ product).dtype)
    assert seen == [{"bf16": torch.bfloat16, "fp16": torch.float16}[precision]]
    assert (accelerator.scaler is not None) == (precision == "fp16")
    assert_same(train(accelerator), expected, rtol=0.1, atol=0.02)
    again = accelerate.Accelerator(mixed_precision=precision)
    assert again.mixed_precision == precision and again.native_amp


def test_resumed_is_uninterrupted(tmp_path):
    whole = train(accelerate.Accelerator(), epochs=2, folder=tmp_path, dropout=0.5)
    torch.rand(7, device="rustorch")
    resumed = train(accelerate.Accelerator(), resume=tmp_path, dropout=0.5)
    assert_same(resumed, whole, rtol=0, atol=0)


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize("device_map", ["auto", {"": "rustorch"}, {"0": "rustorch", "1": "rustorch", "2": "cpu"}])
def test_a_checkpoint_is_dispatched(device_map, tmp_path):
    model, x = small(), torch.randn(2, 4)
    accelerate.Accelerator().save_model(model, str(tmp_path))
    with accelerate.init_empty_weights():
        empty = small()
    loaded = accelerate.load_checkpoint_and_dispatch(empty, str(tmp_path), device_map=device_map)
    assert loaded[0].weight.device.type == "rustorch"
    torch.testing.assert_close(loaded(x.to("rustorch")).cpu(), model(x))


def test_weights_are_offloaded_to_the_cpu():
    model, x = small(), torch.randn(2, 4)
    expected = model(x)
    accelerate.cpu_offload(model, execution_device=torch.device("rustorch"))
    actual = model(x.to("rustorch"))
    assert actual.device.type == "rustorch"
    torch.testing.assert_close(actual.cpu(), expected)


def test_it_says_when_it_comes_too_late():
    PartialState(cpu=True)
    PartialState._shared_state["device"] = torch.device("cpu")
    with pytest.raises(RuntimeError, match="before the first Accelerator"):
        rustorch_device.integrations.accelerate._choose_device()
