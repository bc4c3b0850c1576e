"""Attention of jagged nested tensors, and the operations that attention counts as."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

LENGTHS = (2, 3, 7, 1)
WIDTH = 4


def sequences(heads: int) -> list[torch.Tensor]:
    return [torch.randn(length, heads * WIDTH) for length in LENGTHS]


def attend_heads(query, key, value, **options):
    first = 1 if query.is_nested else 0
    result = F.scaled_dot_product_attention(*(x.transpose(first, first + 1) for x in (query, key, value)), **options)
    return result.transpose(first, first + 1)


def attend(query, key, value, **options):
    return attend_heads(*(x.unflatten(-1, [-1, WIDTH]) for x in (query, key, value)), **options).flatten(-2)


@pytest.mark.parametrize("heads", [(2, 2), (4, 2)])
@pytest.mark.parametrize("is_causal", [False, True])
def test_each_sequence_attends_to_itself(heads, is_causal):
    options = {"is_causal": is_causal, "enable_gqa": heads[0] != heads[1]}
    given = [sequences(count) for count in (heads[0], heads[1], heads[1])]
    nested = [
        torch.nested.nested_tensor(each, layout=torch.jagged, device="rustorch", requires_grad=True) for each in given
    ]
    result = attend(*nested, **options)
    result.values().backward(torch.arange(13.0, device="rustorch")[:, None].expand_as(result.values()))

    exact = [[tensor.double().requires_grad_() for tensor in each] for each in given]
    outs = [attend(*each, **options) for each in zip(*exact, strict=True)]
    whole = torch.cat(outs)
    whole.backward(torch.arange(13.0).double()[:, None].expand_as(whole))
    torch.testing.assert_close(result.values().cpu().double(), whole, rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(nested, exact, strict=True):
        grads = torch.cat([tensor.grad for tensor in theirs])
        torch.testing.assert_close(mine.grad.values().cpu().double(), grads, rtol=1e-4, atol=1e-4)


def test_what_comes_out_fits_what_went_in():
    x = torch.nested.nested_tensor(sequences(2), layout=torch.jagged, device="rustorch")
    assert (x + attend(x, x, x)).values().shape == x.values().shape


def test_places_that_are_not_full():
    values, offsets = torch.randn(10, 2, WIDTH), torch.tensor([0, 4, 10])
    lengths = torch.tensor([3, 2])
    parts = [values[0:3], values[4:6]]
    x = torch.nested.nested_tensor_from_jagged(
        values.to("rustorch"), offsets.to("rustorch"), lengths=lengths.to("rustorch")
    )
    for mine, part in zip(attend_heads(x, x, x).unbind(), parts, strict=True):
        torch.testing.assert_close(mine.cpu(), attend_heads(part, part, part), rtol=1e-5, atol=1e-5)


def test_masks_are_refused_as_on_the_cpu():
    for device in ("cpu", "rustorch"):
        x = torch.nested.nested_tensor(sequences(1), layout=torch.jagged, device=device).unflatten(-1, [1, WIDTH])
        x = x.transpose(1, 2)
        with pytest.raises(ValueError, match="Masks are not yet supported"):
            F.scaled_dot_product_attention(x, x, x, attn_mask=torch.ones(3, 3, device=device))


COUNT = """
import torch
{before}
import rustorch_device
from torch.utils.flop_counter import FlopCounterMode
counts = []
for device in ("cpu", "rustorch"):
    q = torch.randn(2, 4, 16, 8, device=device, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.scaled_dot_product_attention(q, q, q).sum().backward()
    counts.append(counter.get_total_flops())
assert counts[0] == counts[1] > 0, counts
"""


@pytest.mark.parametrize("before", ["", "import torch.utils.flop_counter"], ids=["imported later", "imported before"])
def test_attention_counts_as_on_the_cpu(before):
    subprocess.run([sys.executable, "-c", COUNT.format(before=before)], check=True, timeout=300)
