"""torch.autocast("rustorch"): on, off, and training through it; `test_autocast_ops.py` goes op by op."""

import pytest
import torch
from compared import DEVICE
from torch import nn

LOWER = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", LOWER)
def test_ops_run_in_their_precision(dtype):
    x = torch.randn(4, 4, device=DEVICE)
    linear = nn.Linear(4, 4, device=DEVICE)
    assert linear(x).dtype == torch.float32
    with torch.autocast(DEVICE, dtype=dtype):
        assert torch.is_autocast_enabled(DEVICE)
        assert linear(x).dtype == (x @ x).dtype == dtype
        assert nn.functional.mse_loss(linear(x), x).dtype == torch.float32
        with torch.autocast(DEVICE, enabled=False):
            assert (x @ x).dtype == torch.float32
    torch.testing.assert_close(linear(x).to(dtype).float(), (x @ linear.weight.t() + linear.bias), atol=0.1, rtol=0.1)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", LOWER)
def test_training_in_lower_precision_follows_f32(dtype, compiled):
    results = []
    for lower in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 3)).to(DEVICE)
        inputs, labels = torch.randn(64, 8).to(DEVICE), torch.randint(0, 3, (64,)).to(DEVICE)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02, fused=True)
        scaler = torch.amp.GradScaler(DEVICE, enabled=lower)

        def loss_of(model=model, inputs=inputs, labels=labels, lower=lower):
            with torch.autocast(DEVICE, dtype=dtype, enabled=lower):
                return nn.functional.cross_entropy(model(inputs), labels)

        call = torch.compile(loss_of, backend="rust_backend") if compiled else loss_of
        for _ in range(20):
            optimizer.zero_grad()
            loss = call()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())
        results.append(loss.item())
    assert results[1] == pytest.approx(results[0], rel=0.1, abs=0.05)


def test_the_scaler_does_what_the_cpus_does():
    runs = []
    for device in ("cpu", DEVICE):
        weight = nn.Parameter(torch.ones(3, device=device))
        optimizer = torch.optim.SGD([weight], lr=0.1)
        scaler = torch.amp.GradScaler(device, init_scale=4.0, growth_interval=2)
        seen = []
        for factor in (1.0, float("inf"), 2.0, 3.0, float("nan"), 1.0, 1.0, 1.0):
            optimizer.zero_grad()
            scaler.scale((weight * factor).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
            seen.append((scaler.get_scale(), weight.tolist()))
        runs.append((seen, scaler.state_dict()))
    assert runs[0] == runs[1]
    assert {scale for scale, _ in runs[0][0]} == {2.0, 4.0}
