"""torch.autocast("rustorch"): which ops run in which precision, and training through it."""

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
        assert torch.softmax(linear(x), 1).dtype == linear(x).exp().dtype == torch.float32
        assert linear(x).sum().dtype == torch.float32
        # The widest of the operands decides.
        assert torch.addcmul(x, linear(x), linear(x)).dtype == torch.float32
        assert torch.relu(linear(x)).dtype == dtype
        with torch.autocast(DEVICE, enabled=False):
            assert (x @ x).dtype == torch.float32
        with pytest.raises(RuntimeError, match="unsafe to autocast"):
            nn.functional.binary_cross_entropy(x.sigmoid(), x.sigmoid())
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
