"""Libraries that need no switch, each tried small beside the CPU; eager, and compiled where it matters."""

import copy

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.allow_fallback
DEVICE, BACKEND = "rustorch", "rust_backend"


def library(name: str):
    return pytest.importorskip(name, reason=f"{name} is not installed: `make libraries` installs it")


def check_training(model: nn.Module, inputs: torch.Tensor, compiled: bool = False, **tolerance) -> None:
    """One step of training, and one of inference, against the CPU's."""
    torch._dynamo.reset()
    there = copy.deepcopy(model).to(DEVICE)
    run = torch.compile(there, backend=BACKEND) if compiled else there
    model.train()
    expected = model(inputs)
    expected.square().mean().backward()
    actual = run.train()(inputs.to(DEVICE))
    actual.square().mean().backward()
    torch.testing.assert_close(actual.detach().cpu(), expected.detach(), **tolerance)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    ours = dict(there.named_parameters())
    assert gradients
    for name, gradient in gradients.items():
        largest = gradient.abs().max().item()
        assert (ours[name].grad.cpu() - gradient).abs().max().item() <= 1e-2 * largest + 1e-5, name
    with torch.no_grad():
        torch.testing.assert_close(run.eval()(inputs.to(DEVICE)).cpu(), model.eval()(inputs), **tolerance)


TIMM = {
    "resnet10t": {},
    "convnext_atto": {},
    "mobilenetv3_small_050": {},
    "efficientnet_b0": {},
    "regnetx_002": {},
    "ghostnet_050": {},
    "edgenext_xx_small": {},
    "poolformer_s12": {},
    "vit_tiny_patch16_224": {"img_size": 64, "depth": 2},
    "deit_tiny_patch16_224": {"img_size": 64, "depth": 2},
    "mixer_s32_224": {"img_size": 64},
    "swin_tiny_patch4_window7_224": {"img_size": 64, "window_size": 4, "depths": (1, 1, 1, 1), "drop_path_rate": 0.0},
}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", TIMM)
def test_timm(name, compiled):
    timm = library("timm")
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, drop_rate=0.0, **TIMM[name])
    check_training(model, torch.randn(4, 3, 64, 64), compiled, rtol=1e-2, atol=1e-3)


def test_timms_optimizers():
    timm = library("timm")
    from timm.optim import create_optimizer_v2

    assert timm.__version__
    for name in ("adamw", "lamb", "lion", "nadamw", "adan", "sgd"):
        trained = []
        for device in ("cpu", DEVICE):
            torch.manual_seed(0)
            model = nn.Linear(4, 3)
            inputs = torch.randn(8, 4)
            optimizer = create_optimizer_v2(model.to(device), opt=name, lr=0.01)
            for _ in range(3):
                optimizer.zero_grad()
                model(inputs.to(device)).square().mean().backward()
                optimizer.step()
            trained.append(model.weight.detach().cpu())
        torch.testing.assert_close(*trained, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def test_an_optimizer_of_timm_that_compiles_for_itself_says_what_to_do():
    library("timm")
    from timm.optim import create_optimizer_v2

    torch._dynamo.reset()
    model = nn.Linear(4, 3).to(DEVICE)
    optimizer = create_optimizer_v2(model, opt="kron", lr=0.01)
    model(torch.randn(2, 4, device=DEVICE)).sum().backward()
    with pytest.raises(Exception, match=r"Inductor generates no code for rustorch.*backend='rust_backend'"):
        optimizer.step()


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "squeezenet1_1"])
def test_torchvision(name, compiled):
    torchvision = library("torchvision")
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, num_classes=5, **({"dropout": 0.0} if "squeeze" in name else {}))
    check_training(model, torch.randn(4, 3, 64, 64), compiled, rtol=1e-2, atol=1e-3)


METRICS = {
    "Accuracy": {"task": "multiclass", "num_classes": 4},
    "F1Score": {"task": "multiclass", "num_classes": 4, "average": "macro"},
    "ConfusionMatrix": {"task": "multiclass", "num_classes": 4},
    "AUROC": {"task": "multiclass", "num_classes": 4},
    "AveragePrecision": {"task": "multiclass", "num_classes": 4},
    "CalibrationError": {"task": "multiclass", "num_classes": 4},
    "MeanSquaredError": {},
    "R2Score": {},
    "PearsonCorrCoef": {},
    "SpearmanCorrCoef": {},
    "CosineSimilarity": {},
}


@pytest.mark.parametrize("name", METRICS)
def test_torchmetrics(name):
    torchmetrics = library("torchmetrics")
    torch.manual_seed(0)
    if METRICS[name]:
        given = torch.randn(32, 4).softmax(1), torch.randint(0, 4, (32,))
    elif name == "CosineSimilarity":
        given = torch.randn(32, 4), torch.randn(32, 4)
    else:
        given = torch.randn(32), torch.randn(32)
    metric = getattr(torchmetrics, name)(**METRICS[name])
    there = copy.deepcopy(metric).to(DEVICE)
    for part in (slice(0, 16), slice(16, 32)):
        metric.update(*(value[part] for value in given))
        there.update(*(value[part].to(DEVICE) for value in given))
    computed = there.compute()
    assert computed.device.type == DEVICE
    torch.testing.assert_close(computed.cpu(), metric.compute(), rtol=1e-4, atol=1e-5)


OF_SPARSE = [
    "AdjustedMutualInfoScore",
    "AdjustedRandScore",
    "CompletenessScore",
    "FowlkesMallowsIndex",
    "HomogeneityScore",
    "MutualInfoScore",
    "NormalizedMutualInfoScore",
    "RandScore",
    "VMeasureScore",
]


@pytest.mark.parametrize("name", ["CalinskiHarabaszScore", "DaviesBouldinScore", "DunnIndex", *OF_SPARSE])
def test_metrics_of_clusters(name):
    """Nine of them count by sparse tensors, and say so on the device; on the CPU they take what came from there."""
    library("torchmetrics")
    from torchmetrics import clustering

    generator = torch.Generator().manual_seed(0)
    labels, others = (torch.randint(0, 3, (40,), generator=generator) for _ in range(2))
    given = (labels, others) if name in OF_SPARSE else (torch.randn(40, 2, generator=generator), labels)
    expected = getattr(clustering, name)()
    expected.update(*given)
    metric = getattr(clustering, name)().to(DEVICE)
    metric.update(*(value.to(DEVICE) for value in given))
    if name in OF_SPARSE:
        with pytest.raises(NotImplementedError, match="rustorch has dense tensors only"):
            metric.compute()
        metric = metric.cpu()
    torch.testing.assert_close(metric.compute().cpu(), expected.compute(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_peft(compiled):
    peft = library("peft")
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 3))
    model = peft.get_peft_model(base, peft.LoraConfig(target_modules=["0", "2"], r=2, init_lora_weights=False))
    check_training(model, torch.randn(6, 4), compiled, rtol=1e-3, atol=1e-4)
    there = model.to(DEVICE)
    x = torch.randn(6, 4, device=DEVICE)
    with torch.no_grad():
        expected = there.eval()(x)
        torch.testing.assert_close(there.merge_and_unload()(x), expected, rtol=1e-3, atol=1e-4)


def test_safetensors(tmp_path):
    safetensors = library("safetensors.torch")
    model = nn.Linear(4, 3).to(DEVICE)
    safetensors.save_file(model.state_dict(), tmp_path / "model.safetensors")
    loaded = safetensors.load_file(tmp_path / "model.safetensors")
    other = nn.Linear(4, 3).to(DEVICE)
    other.load_state_dict(loaded)
    assert torch.equal(other.weight, model.weight) and other.weight.device.type == DEVICE


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_kornia(compiled):
    kornia = library("kornia")
    image = torch.rand(2, 3, 16, 16)
    for function in (
        lambda x: kornia.filters.gaussian_blur2d(x, (3, 3), (1.0, 1.0)),
        kornia.filters.sobel,
        kornia.color.rgb_to_hsv,
        kornia.color.rgb_to_lab,
        lambda x: kornia.geometry.rotate(x, torch.tensor([30.0, 40.0], device=x.device)),
        lambda x: kornia.enhance.equalize(x),
    ):
        torch._dynamo.reset()
        run = torch.compile(function, backend=BACKEND) if compiled else function
        torch.testing.assert_close(run(image.to(DEVICE)).cpu(), function(image), rtol=1e-3, atol=1e-4)


def test_gpytorch():
    gpytorch = library("gpytorch")

    class Process(gpytorch.models.ExactGP):
        def __init__(self, x, y, likelihood):
            super().__init__(x, y, likelihood)
            self.mean, self.kernel = gpytorch.means.ConstantMean(), gpytorch.kernels.RBFKernel()

        def forward(self, x):
            return gpytorch.distributions.MultivariateNormal(self.mean(x), self.kernel(x))

    means = []
    for device in ("cpu", DEVICE):
        x = torch.linspace(0, 1, 12).to(device)
        y = (x * 6).sin()
        likelihood = gpytorch.likelihoods.GaussianLikelihood().to(device)
        model = Process(x, y, likelihood).to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        objective = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
        for _ in range(5):
            optimizer.zero_grad()
            (-objective(model(x), y)).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            means.append(likelihood(model(x + 0.01)).mean.cpu())
    torch.testing.assert_close(*means, rtol=1e-2, atol=1e-3)


def test_a_compiled_kernel_of_gpytorch():
    gpytorch = library("gpytorch")
    torch._dynamo.reset()
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel()).to(DEVICE)
    x = torch.linspace(0, 1, 12, device=DEVICE)
    compiled = torch.compile(lambda x: kernel(x).to_dense(), backend=BACKEND)
    torch.testing.assert_close(compiled(x), kernel(x).to_dense())


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_skorch(compiled):
    skorch = library("skorch")
    import numpy

    torch.manual_seed(0)
    x = numpy.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    y = (x[:, 0] > 0).astype("int64")
    net = skorch.NeuralNetClassifier(
        nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.05,
        max_epochs=8,
        device=DEVICE,
        verbose=0,
        **({"compile": True, "compile__backend": BACKEND} if compiled else {}),
    )
    net.fit(x, y)
    assert next(net.module_.parameters()).device.type == DEVICE
    assert net.score(x, y) > 0.9


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_torch_geometric(compiled):
    library("torch_geometric")
    from torch_geometric.data import Data
    from torch_geometric.nn import GATConv, GCNConv, SAGEConv

    edges = torch.randint(0, 10, (2, 40))
    data = Data(x=torch.randn(10, 4), edge_index=edges)
    for layer in (GCNConv(4, 3), SAGEConv(4, 3), GATConv(4, 3, heads=2)):
        there, moved = copy.deepcopy(layer).to(DEVICE), data.clone().to(DEVICE)
        torch._dynamo.reset()
        run = torch.compile(there, backend=BACKEND) if compiled else there
        expected, actual = layer(data.x, data.edge_index), run(moved.x, moved.edge_index)
        torch.testing.assert_close(actual.detach().cpu(), expected.detach(), rtol=1e-4, atol=1e-5)
        actual.sum().backward()
        assert all(parameter.grad is not None for parameter in there.parameters())


@pytest.mark.parametrize(
    "name", ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig", "IntxWeightOnlyConfig"]
)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_torchao(name, compiled):
    quantization = library("torchao.quantization")
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(128, 64)).to(torch.bfloat16)
    there = copy.deepcopy(model).to(DEVICE)
    quantization.quantize_(model, getattr(quantization, name)())
    quantization.quantize_(there, getattr(quantization, name)())
    run = torch.compile(there, backend=BACKEND) if compiled else there
    x = torch.randn(4, 128, dtype=torch.bfloat16)
    torch.testing.assert_close(run(x.to(DEVICE)).cpu(), model(x), rtol=2e-2, atol=2e-2)
