"""Products and convolutions that run what follows them: which do, and that they give eager's bits."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import rustorch_device

pytestmark = pytest.mark.usefixtures("fresh_dynamo")


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.down(F.gelu(self.up(x)))


class Block(nn.Module):
    """Of a ResNet: two normalised convolutions, and what goes past them."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.past = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(3))

    def forward(self, x):
        y = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(y)) + self.norms[2](self.past(x)))


MODELS = {
    "linear": (lambda: nn.Sequential(nn.Linear(67, 131), nn.GELU(), nn.Linear(131, 5)), (197, 67)),
    "batched": (lambda: nn.Sequential(nn.Linear(67, 131, bias=False), nn.Tanh()), (3, 65, 67)),
    "residual": (lambda: Residual(129), (131, 129)),
    "vector": (lambda: nn.Sequential(nn.Linear(301, 1001), nn.Sigmoid()), (1, 301)),
    "block": (lambda: Block(5, 16), (3, 5, 33, 37)),
    "strided": (lambda: Block(8, 24, 2), (7, 8, 17, 19)),
    "small": (lambda: Block(16, 40, 2), (5, 16, 7, 7)),
    "depthwise": (
        lambda: nn.Sequential(nn.Conv2d(13, 13, 3, 1, 1, groups=13), nn.BatchNorm2d(13), nn.ReLU6()),
        (3, 13, 29, 31),
    ),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(6, 9, 3, 2, 1), nn.ReLU()), (2, 6, 21, 23)),
    "line": (lambda: nn.Sequential(nn.Conv1d(4, 10, 9, 4), nn.SiLU()), (5, 4, 301)),
    "volume": (lambda: nn.Sequential(nn.Conv3d(2, 6, 3), nn.ELU()), (2, 2, 9, 10, 11)),
}


def case(name: str, dtype: torch.dtype) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    build, shape = MODELS[name]
    return build().to("rustorch", dtype), torch.randn(shape).to("rustorch", dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_inference_has_the_bits_of_eager(name, dtype):
    model, x = case(name, dtype)
    model.eval()
    layouts = [x, x.contiguous(memory_format=torch.channels_last)] if x.dim() == 4 else [x]
    with torch.no_grad():
        for x in layouts:
            expected = model(x)
            actual = torch.compile(model, backend="rust_backend")(x)
            assert actual.stride() == expected.stride() and torch.equal(actual, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_training_step_has_the_bits_of_eager(name, dtype):
    model, x = case(name, dtype)
    results = []
    for wrap in (lambda model: model, lambda model: torch.compile(model, backend="rust_backend")):
        mine, inputs = copy.deepcopy(model), x.clone().requires_grad_()
        output = wrap(mine)(inputs)
        (output * torch.linspace(-1, 1, output.shape[-1]).to(x)).sum().backward()
        results.append([output, inputs.grad, *(p.grad for p in mine.parameters()), *mine.buffers()])
    for expected, actual in zip(*results, strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", ["fused[addmm+gelu_none]"]),
        (
            "block",
            [
                "fused[conv_forward+sub+mul_add+relu]",
                "fused[conv_forward+sub+mul_add+sub+mul_add+add+relu]",
            ],
        ),
        ("depthwise", ["fused[conv_forward+sub+mul_add+hardtanh]"]),
    ],
)
def test_explain_names_what_runs_together(name, expected):
    model, x = case(name, torch.float32)
    with torch.no_grad():
        report = rustorch_device.explain(model.eval(), x)
    assert report.fused == expected
