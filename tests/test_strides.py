"""Results lie in memory as the CPU's: what views, exporters and channels-last models rely on."""

import pytest
import torch
from torch.nn import functional as F


def images(*shape, device):
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return (
        torch.arange(1.0, 1 + torch.Size(shape).numel())
        .view(shape)
        .to(device)
        .contiguous(memory_format=formats[len(shape)])
    )


def index(*values, device):
    return torch.tensor(values, device=device)


CASES = {
    "nonzero": lambda d: torch.ones(4, 3, 2, device=d).nonzero(),
    "nonzero of one": lambda d: torch.ones(1, 2, device=d).nonzero(),
    "argwhere": lambda d: torch.ones(5, device=d).argwhere(),
    "rows": lambda d: images(2, 4, 3, 5, device=d)[index(1, 0, device=d)],
    "channels": lambda d: images(2, 4, 3, 5, device=d)[:, index(1, 0, device=d)],
    "columns": lambda d: images(2, 4, 3, 5, device=d)[..., index(1, 0, 2, device=d)],
    "apart": lambda d: images(2, 4, 3, 5, device=d)[index(1, 0, device=d), :, index(1, 0, device=d)],
    "side by side": lambda d: images(2, 4, 3, 5, device=d)[:, :, index(1, 0, device=d), index(1, 0, device=d)],
    "a mask of rows": lambda d: images(2, 4, 3, 5, device=d)[index(True, True, device=d)],
    "rows of a transposed": lambda d: torch.ones(3, 4, 5, device=d).transpose(0, 2)[index(1, 0, device=d)],
    "by a transposed index": lambda d: torch.ones(7, 3, device=d)[index(1, 0, 2, 3, device=d).view(2, 2).t()],
    "one channel": lambda d: images(2, 1, 3, 5, device=d)[index(1, 0, device=d)],
    "pixel_shuffle": lambda d: F.pixel_shuffle(images(2, 8, 3, 5, device=d), 2),
    "pixel_shuffle to one": lambda d: F.pixel_shuffle(images(2, 4, 3, 5, device=d), 2),
    "pixel_unshuffle": lambda d: F.pixel_unshuffle(images(2, 2, 4, 6, device=d), 2),
    "channel_shuffle": lambda d: F.channel_shuffle(images(2, 4, 3, 5, device=d), 2),
    "channel_shuffle of a transposed": lambda d: F.channel_shuffle(
        torch.ones(3, 5, 4, 2, device=d).permute(3, 2, 1, 0), 2
    ),
    "roll": lambda d: images(2, 4, 3, 5, device=d).roll(1, 1),
    "roll twice": lambda d: images(2, 4, 3, 5, device=d).roll((1, 2), (0, 3)),
    "roll all": lambda d: images(2, 4, 3, 5, device=d).roll(1),
    "roll a transposed": lambda d: torch.ones(3, 4, device=d).t().roll(1, 0),
    "unique rows": lambda d: torch.arange(12, device=d).view(3, 4).t().unique(dim=0),
    "unique columns": lambda d: torch.arange(12, device=d).view(3, 4).unique(dim=1),
    "unique neighbours": lambda d: torch.arange(12, device=d).view(3, 4).unique_consecutive(dim=1),
    "complex": lambda d: torch.complex(torch.ones(3, 4, device=d).t(), torch.ones(3, 4, device=d).t()),
    "polar": lambda d: torch.polar(images(2, 4, 3, 5, device=d), images(2, 4, 3, 5, device=d)),
    "reflect": lambda d: F.pad(images(2, 4, 3, 5, device=d), (1, 1, 1, 1), "reflect"),
    "reflect a volume": lambda d: F.pad(images(2, 4, 3, 5, 3, device=d), (1,) * 6, "reflect"),
    "replicate": lambda d: F.pad(images(2, 4, 3, 5, device=d), (1, 2, 1, 2), "replicate"),
    "replicate a volume": lambda d: F.pad(images(2, 4, 3, 5, 3, device=d), (1,) * 6, "replicate"),
    "max_unpool2d": lambda d: F.max_unpool2d(*F.max_pool2d(images(2, 4, 4, 6, device=d), 2, return_indices=True), 2),
    "where": lambda d: torch.where(images(2, 4, 3, 5, device=d) > 0, *[images(2, 4, 3, 5, device=d)] * 2),
    "attention without a batch": lambda d: F.scaled_dot_product_attention(
        *[torch.ones(8, 3, 4, device=d).transpose(0, 2)] * 3
    ),
    "attention": lambda d: F.scaled_dot_product_attention(*[torch.ones(2, 3, 5, 4, device=d).transpose(1, 2)] * 3),
    "ldexp": lambda d: torch.ldexp(torch.ones(5, 4, 3, device=d).transpose(0, 2), torch.ones(4, 1, device=d)),
    "ldexp of one channel": lambda d: torch.ldexp(images(2, 1, 3, 5, device=d), images(2, 1, 3, 5, device=d)),
    "ldexp of a number": lambda d: torch.ldexp(torch.tensor(3.0), torch.ones(5, 4, 3, device=d).transpose(0, 2)),
    "power of a number": lambda d: torch.pow(2.0, torch.ones(5, 4, 3, device=d).transpose(0, 2)),
    "complex of one channel": lambda d: torch.complex(images(2, 1, 3, 5, device=d), torch.ones(1, 1, 1, 5, device=d)),
    "dropout backward": lambda d: torch.ops.aten.native_dropout_backward(
        images(5, 1, 3, 3, device=d), images(5, 1, 3, 3, device=d) > 3, 2.0
    ),
    "dropout backward of one image": lambda d: torch.ops.aten.native_dropout_backward(
        torch.ones(1, 3, 3, device=d), images(5, 1, 3, 3, device=d)[:, :1] > 3, 2.0
    ),
    "logsigmoid": lambda d: F.logsigmoid(images(2, 4, 3, 5, device=d)),
    "logsigmoid of a transposed": lambda d: F.logsigmoid(torch.ones(5, 4, 3, device=d).transpose(0, 2)),
    "logsigmoid of steps": lambda d: F.logsigmoid(torch.ones(6, 8, device=d)[::2, ::2]),
    "rrelu": lambda d: F.rrelu(images(2, 4, 3, 5, device=d), training=True),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_strides_are_the_cpus(case):
    expected, actual = case("cpu"), case("rustorch")
    assert actual.shape == expected.shape and actual.stride() == expected.stride()
    if case is not CASES["rrelu"]:
        torch.testing.assert_close(actual.cpu(), expected)


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_strides_of_gradients_of_pads(mode):
    strides = []
    for device in ("cpu", "rustorch"):
        image = images(2, 4, 4, 5, device=device).requires_grad_()
        padded = F.pad(image, (1, 1, 1, 1), mode)
        (gradient,) = torch.autograd.grad(padded, image, torch.ones(padded.shape, device=device))
        strides.append(gradient.stride())
    assert strides[0] == strides[1]


def test_strides_of_gradients_of_logsigmoid():
    strides = []
    for device in ("cpu", "rustorch"):
        image = images(2, 4, 3, 5, device=device).requires_grad_()
        result = F.logsigmoid(image)
        for seed in (torch.ones(2, 4, 3, 5, device=device), images(2, 4, 3, 5, device=device)):
            strides.append(torch.autograd.grad(result, image, seed, retain_graph=True)[0].stride())
    assert strides[:2] == strides[2:]
