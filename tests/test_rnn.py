"""Recurrent layers against the CPU: values, gradients, packed sequences, cells."""

import pytest
import torch
from compared import FLOATS, check_error, numbers
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

LAYERS = {
    "lstm": (nn.LSTM, {}),
    "lstm of two layers, both ways": (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    "lstm without bias": (nn.LSTM, {"bias": False}),
    "lstm with projection": (nn.LSTM, {"proj_size": 3}),
    "gru": (nn.GRU, {}),
    "gru of two layers, both ways": (nn.GRU, {"num_layers": 2, "bidirectional": True}),
    "gru without bias": (nn.GRU, {"bias": False}),
    "rnn": (nn.RNN, {}),
    "rnn of relu": (nn.RNN, {"nonlinearity": "relu", "num_layers": 2}),
}


def run(layer, steps, *, lengths=None):
    steps = steps.detach().requires_grad_()
    given = steps
    if lengths is not None:
        given = pack_padded_sequence(steps, lengths, batch_first=True, enforce_sorted=False)
    out, state = layer(given)
    if lengths is not None:
        out, _ = pad_packed_sequence(out, batch_first=True)
    states = state if isinstance(state, tuple) else (state,)
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape).to(out.dtype).to(out.device)
    ((out * weight).sum() + sum((s * s).sum() for s in states)).backward()
    return [out, *states, steps.grad, *(p.grad for p in layer.parameters())]


def compare(kind, options, dtype, steps, tolerance, **named):
    torch.manual_seed(0)
    here = kind(steps.size(-1), 19, batch_first=True, **options).to(dtype)
    there = kind(steps.size(-1), 19, batch_first=True, **options).to(dtype)
    there.load_state_dict(here.state_dict())
    there.to("rustorch")
    expected = run(here, steps, **named)
    actual = run(there, steps.to("rustorch"), **named)
    for mine, theirs in zip(actual, expected, strict=True):
        assert mine.device.type == "rustorch" and mine.dtype == dtype
        torch.testing.assert_close(mine.cpu(), theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    kind, options = LAYERS[name]
    compare(kind, options, torch.float32, numbers(3, 5, 7), 1e-4)
    compare(kind, options, torch.float32, numbers(1, 1, 1), 1e-4)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_dtypes(name, dtype):
    kind, options = LAYERS[name]
    # The halves round after every op; the CPU's cells are made of more of them.
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-4}.get(dtype, 6e-2)
    compare(kind, options, dtype, numbers(4, 3, 6, dtype=dtype), tolerance)


@pytest.mark.parametrize("name", ["lstm", "gru of two layers, both ways", "rnn"])
def test_packed_sequences(name):
    kind, options = LAYERS[name]
    compare(kind, options, torch.float32, numbers(4, 6, 5), 1e-4, lengths=[6, 2, 5, 1])


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells_by_finite_differences(kind):
    cell = kind(3, 4).double().to("rustorch")
    x = numbers(2, 3, dtype=torch.float64).to("rustorch").requires_grad_()
    state = numbers(2, 4, dtype=torch.float64, seed=1).to("rustorch").requires_grad_()
    other = numbers(2, 4, dtype=torch.float64, seed=2).to("rustorch").requires_grad_()
    if kind is nn.LSTMCell:
        assert torch.autograd.gradcheck(lambda x, h, c: cell(x, (h, c)), (x, state, other))
        # One of the two states alone.
        assert torch.autograd.gradcheck(lambda x, h, c: cell(x, (h, c))[0], (x, state, other))
        assert torch.autograd.gradcheck(lambda x, h, c: cell(x, (h, c))[1], (x, state, other))
    else:
        assert torch.autograd.gradcheck(cell, (x, state))


def test_dropout_between_layers_and_empty_batches():
    layer = nn.LSTM(4, 5, num_layers=2, dropout=0.5).to("rustorch")
    torch.manual_seed(1)
    first = layer(torch.ones(3, 2, 4, device="rustorch"))[0]
    torch.manual_seed(1)
    assert torch.equal(first.cpu(), layer(torch.ones(3, 2, 4, device="rustorch"))[0].cpu())
    assert layer(torch.ones(3, 0, 4, device="rustorch"))[0].shape == (3, 0, 5)


def test_errors():
    check_error(lambda x: nn.LSTM(3, 4).to(x.device)(x), numbers(2, 2, 5))
    check_error(lambda x: nn.GRUCell(3, 4).to(x.device)(x, x), numbers(2, 3))
