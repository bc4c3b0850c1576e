"""nn.MultiheadAttention and nn.Transformer against the CPU: training, and the fast paths of eval."""

import copy

import pytest
import torch
from compared import numbers
from torch import nn

PADDED = torch.tensor([[False] * 7, [False] * 5 + [True] * 2, [False] * 3 + [True] * 4])
CAUSAL = nn.Transformer.generate_square_subsequent_mask(7)
MASKS = {
    "none": {},
    "padding": {"src_key_padding_mask": PADDED},
    "causal": {"mask": CAUSAL},
    "both": {"mask": CAUSAL.isinf(), "src_key_padding_mask": PADDED},
}


def moved(value):
    return {name: item.to("rustorch") if isinstance(item, torch.Tensor) else item for name, item in value.items()}


def assert_near(actual, expected, keep=None, tolerance=1e-4):
    assert actual.device.type == "rustorch"
    actual = actual.detach().cpu()
    if keep is not None:
        actual, expected = actual[keep], expected[keep]
    torch.testing.assert_close(actual, expected.detach(), rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_in_eval(activation, norm_first, masks):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=norm_first, activation=activation)
    here = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first).eval()
    there = copy.deepcopy(here).to("rustorch")
    x = numbers(3, 7, 16)
    # What a padded query gives is nobody's concern.
    keep = ~PADDED if "src_key_padding_mask" in MASKS[masks] else None
    with torch.no_grad():
        assert_near(there(x.to("rustorch"), **moved(MASKS[masks])), here(x, **MASKS[masks]), keep)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"need_weights": False},
        {"average_attn_weights": False},
        {"key_padding_mask": PADDED},
        {"attn_mask": CAUSAL, "need_weights": False},
        {"attn_mask": CAUSAL.isinf()},
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_multi_head_attention(training, options):
    torch.manual_seed(0)
    here = nn.MultiheadAttention(16, 4, batch_first=True).train(training)
    there = copy.deepcopy(here).to("rustorch")
    query, other = numbers(3, 7, 16), numbers(3, 7, 16, seed=1)
    for arguments in [(query, query, query), (query, other, other), (query, other, query)]:
        with torch.set_grad_enabled(training):
            same = {id(a): a.to("rustorch") for a in arguments}
            actual = there(*(same[id(a)] for a in arguments), **moved(options))
            expected = here(*arguments, **options)
        assert_near(actual[0], expected[0])
        assert (actual[1] is None) == (expected[1] is None)
        if expected[1] is not None:
            assert_near(actual[1], expected[1])


@pytest.mark.parametrize("masked", [False, True])
def test_a_training_step_of_the_transformer(masked):
    torch.manual_seed(0)
    here = nn.Transformer(16, 2, 1, 1, 24, dropout=0.0, batch_first=True)
    there = copy.deepcopy(here).to("rustorch")
    source, target = numbers(3, 7, 16), numbers(3, 5, 16, seed=1)
    masks = {"tgt_mask": CAUSAL[:5, :5], "src_key_padding_mask": PADDED} if masked else {}
    expected = here(source, target, **masks)
    actual = there(source.to("rustorch"), target.to("rustorch"), **moved(masks))
    assert_near(actual, expected)
    expected.square().mean().backward()
    actual.square().mean().backward()
    for mine, theirs in zip(there.parameters(), here.parameters(), strict=True):
        assert_near(mine.grad, theirs.grad)


def test_dropout_while_training():
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.3).to("rustorch")
    x = numbers(2, 9, 16).to("rustorch")
    torch.manual_seed(1)
    first = layer(x)
    first.sum().backward()
    torch.manual_seed(1)
    assert torch.equal(first.detach().cpu(), layer(x).detach().cpu())
    assert not torch.equal(first.detach().cpu(), layer(x).detach().cpu())
    assert all(p.grad.isfinite().all() for p in layer.parameters())
