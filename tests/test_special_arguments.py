"""Arguments at the edge of what ops take: the CPU's answer or its exception."""

import pytest
import torch
from torch.nn import functional as F


def on_both(call):
    """What `call(device)` gives on both, or the types of what it raises."""
    found = []
    for device in ("cpu", "rustorch"):
        try:
            found.append(call(device))
        except Exception as error:
            found.append(type(error))
    return found


def ones(device, *shape, dtype=torch.float32):
    return torch.ones(*shape, device=device, dtype=dtype)


def longs(device, *values):
    return torch.tensor(values, device=device, dtype=torch.long)


REFUSED = {
    "polygamma": lambda d: torch.polygamma(-1, ones(d, 3)),
    "a padding of the output": lambda d: F.conv_transpose2d(
        ones(d, 1, 1, 4, 4), ones(d, 1, 1, 3, 3), stride=2, output_padding=5
    ),
    "a padding of the output in 1-D": lambda d: F.conv_transpose1d(
        ones(d, 1, 1, 4), ones(d, 1, 1, 3), output_padding=1
    ),
    "offsets": lambda d: F.embedding_bag(longs(d, 0, 1, 2, 1), ones(d, 4, 3), longs(d, 0, -1)),
    "offsets of sums": lambda d: F.embedding_bag(longs(d, 0, 1), ones(d, 4, 3), longs(d, 0, -1), mode="sum"),
    "offsets of maxima": lambda d: F.embedding_bag(longs(d, 0, 1), ones(d, 4, 3), longs(d, 0, -1), mode="max"),
    "no time steps": lambda d: F.ctc_loss(ones(d, 0, 2, 4), longs(d, 1, 1).view(2, 1), [0, 0], [1, 1]),
    "no samples": lambda d: F.ctc_loss(ones(d, 3, 0, 4), longs(d).view(0, 1), [], []),
    "no channels": lambda d: F.adaptive_avg_pool3d(ones(d, 1, 0, 4, 4, 4), 2),
    "a factor that overflows": lambda d: F.pixel_shuffle(ones(d, 1, 4, 2, 2), 2**32 - 1),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_the_cpus_refusals(call):
    expected, actual = on_both(call)
    assert isinstance(expected, type) and actual is expected


def test_a_factor_whose_square_is_zero_in_64_bits():
    for device in ("cpu", "rustorch"):
        for factor in (2**32, 2**33, 2**62):
            with pytest.raises(ValueError, match="too large"):
                F.pixel_shuffle(ones(device, 1, 4, 2, 2), factor)


NORMS = {
    "batch": lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
    "batch with statistics": lambda x, w, b: F.batch_norm(x, w.clone(), b.clone()),
    "layer": lambda x, w, b: F.layer_norm(x, (4,), w, b),
    "group": lambda x, w, b: F.group_norm(x, 2, w, b),
    "instance": lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
}


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("of", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("weight", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bias", [torch.float32, torch.bfloat16], ids=str)
def test_norms_of_mixed_dtypes(norm, of, weight, bias):
    def call(device):
        torch.manual_seed(0)
        x = torch.randn(2, 4, 3, 4).to(device, of)
        result = norm(x, torch.rand(4).to(device, weight), torch.rand(4).to(device, bias))
        return result.dtype

    expected, actual = on_both(call)
    assert actual == expected
