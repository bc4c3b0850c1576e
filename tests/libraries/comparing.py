"""What tests of several libraries share: training on both devices, and the sizes of small transformers."""

from collections.abc import Callable

import torch
from torch import nn

#: Of a small model of transformers.
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 64,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def check_trains_as_on_the_cpu(
    make: Callable[[], nn.Module],
    step: Callable[[Callable, str], tuple[torch.Tensor, torch.Tensor]],
    compiled: bool = False,
) -> None:
    """One step of training on each device.

    Args:
        make: gives the model, the same each time.
        step: takes the model, or what it was compiled to, and the device's name; gives the output to compare, and the
            loss.
    """
    torch._dynamo.reset()
    outputs, gradients = [], []
    for device in ("cpu", "rustorch"):
        there = make().to(device)
        run = torch.compile(there, backend="rust_backend") if compiled and device == "rustorch" else there
        output, loss = step(run, device)
        loss.backward()
        outputs.append(output.detach().cpu())
        gradients.append({name: p.grad.cpu() for name, p in there.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*outputs, rtol=1e-3, atol=1e-4)
    assert gradients[0] and gradients[1].keys() == gradients[0].keys()
    for name, gradient in gradients[0].items():
        assert (gradients[1][name] - gradient).norm() <= 1e-3 * gradient.norm() + 1e-6, name
