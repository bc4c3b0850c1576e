"""Lightning on the device, through `rustorch_device.integrations.lightning`."""

import pytest
import torch
from torch import nn

lightning = pytest.importorskip("lightning", reason="Lightning is not installed: `make libraries` installs it")

from rustorch_device.integrations.lightning import RustorchAccelerator, rustorch_fabric, rustorch_trainer  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Model(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Dropout(0.5), nn.Linear(16, 3))
        self.seen: list[tuple[str, torch.dtype]] = []

    def forward(self, x):
        return self.layers(x)

    def training_step(self, batch):
        inputs, labels = batch
        outputs = self(inputs)
        self.seen.append((inputs.device.type, outputs.dtype))
        return nn.functional.cross_entropy(outputs, labels)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def loader() -> torch.utils.data.DataLoader:
    generator = torch.Generator().manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(24, 4, generator=generator), torch.arange(24) % 3)
    return torch.utils.data.DataLoader(data, batch_size=8)


def fit(model: Model, **arguments) -> lightning.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = lightning.Trainer(max_epochs=2, enable_checkpointing=False, **quiet, **arguments)
    trainer.fit(model, loader())
    return trainer


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16)],
)
def test_the_work_runs_on_the_device(precision, dtype):
    model = Model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.rustorch.reset_peak_memory_stats()
    held = torch.rustorch.max_memory_allocated()
    trainer = fit(model, **rustorch_trainer(precision=precision))
    assert set(model.seen) == {("rustorch", dtype)} and len(model.seen) == 6
    assert trainer.strategy.root_device == torch.device("rustorch:0")
    assert isinstance(trainer.accelerator, RustorchAccelerator) and trainer.precision == precision
    assert torch.rustorch.max_memory_allocated() > held
    assert all((value.cpu() != before[name]).any() for name, value in model.state_dict().items())


def test_it_trains_as_on_the_cpu():
    ours, theirs = Model(), Model()
    for model in (ours, theirs):
        model.layers[2].p = 0.0
    fit(ours, **rustorch_trainer())
    fit(theirs, accelerator="cpu", devices=1)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name].cpu(), value, rtol=1e-4, atol=1e-5)


def test_a_compiled_module_trains():
    torch._dynamo.reset()
    model = Model()
    fit(torch.compile(model, backend="rust_backend"), **rustorch_trainer())
    assert {device for device, _ in model.seen} == {"rustorch"}


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_fabric(precision, dtype):
    fabric = lightning.Fabric(**rustorch_fabric(precision=precision))
    model = Model().layers
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    data = fabric.setup_dataloaders(loader())
    seen = []
    model.module[0].register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    for inputs, labels in data:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        fabric.backward(loss)
        optimizer.step()
    assert fabric.device == torch.device("rustorch:0") and inputs.device.type == "rustorch"
    assert set(seen) == {dtype}


def test_the_accelerator_alone_is_refused_rather_than_train_on_the_cpu():
    with pytest.raises(ValueError, match="Device should be rustorch, got cpu"):
        fit(Model(), accelerator=RustorchAccelerator(), devices=1)
    with pytest.raises(ValueError, match="rustorch"):
        fit(Model(), accelerator="rustorch")
