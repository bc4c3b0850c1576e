"""torchaudio on the device: its transforms and filters, its losses and models."""

import copy

import pytest
import torch

from libraries.comparing import check_trains_as_on_the_cpu

torchaudio = pytest.importorskip("torchaudio", reason="torchaudio is not installed: `make libraries` installs it")

from torchaudio import functional, transforms  # noqa: E402

# Spectra are complex numbers, and those are PyTorch's CPU kernels'.
pytestmark = pytest.mark.allow_fallback
DEVICE = "rustorch"

WAVES = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
MEL = {"n_fft": 256, "n_mels": 40}


def filtered(waves):
    poles, zeros = ([1.0, 0.1, 0.2], [0.3, 0.2, 0.1])
    return functional.lfilter(waves, *(torch.tensor(part, device=waves.device) for part in (poles, zeros)))


OF_WAVES = {
    "Spectrogram": transforms.Spectrogram(256),
    "MelSpectrogram": transforms.MelSpectrogram(16000, **MEL),
    "MFCC": transforms.MFCC(16000, melkwargs=MEL),
    "Resample": transforms.Resample(16000, 8000),
    "AmplitudeToDB": transforms.AmplitudeToDB(),
    "lowpass_biquad": lambda waves: functional.lowpass_biquad(waves, 16000, 3000.0),
    "lfilter": filtered,
    "compute_deltas": functional.compute_deltas,
}


@pytest.mark.parametrize("name", OF_WAVES)
def test_what_is_made_of_waves(name):
    function = OF_WAVES[name]
    there = copy.deepcopy(function).to(DEVICE) if isinstance(function, torch.nn.Module) else function
    actual = there(WAVES.to(DEVICE))
    assert actual.device.type == DEVICE
    torch.testing.assert_close(actual.cpu(), function(WAVES), rtol=1e-3, atol=1e-4)


def test_rnnt_loss():
    logits = torch.randn(2, 5, 4, 6, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([[1, 2, 3], [4, 2, 0]], dtype=torch.int32)
    lengths = torch.tensor([5, 4], dtype=torch.int32), torch.tensor([3, 2], dtype=torch.int32)
    losses, gradients = [], []
    for device in ("cpu", DEVICE):
        given = logits.detach().to(device).requires_grad_()
        loss = functional.rnnt_loss(given, targets.to(device), *(length.to(device) for length in lengths))
        loss.backward()
        losses.append(loss.detach().cpu())
        gradients.append(given.grad.cpu())
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_wav2vec2(compiled):
    torch.manual_seed(0)
    model = torchaudio.models.wav2vec2_model(
        extractor_mode="group_norm",
        extractor_conv_layer_config=[(16, 10, 5), (16, 3, 2)],
        extractor_conv_bias=False,
        encoder_embed_dim=32,
        encoder_projection_dropout=0.0,
        encoder_pos_conv_kernel=16,
        encoder_pos_conv_groups=4,
        encoder_num_layers=2,
        encoder_num_heads=4,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_features=48,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_norm_first=False,
        encoder_layer_drop=0.0,
        aux_num_out=5,
    )

    def step(run, device):
        output = run(WAVES.to(device))[0]
        return output, output.square().mean()

    check_trains_as_on_the_cpu(lambda: copy.deepcopy(model), step, compiled)
