"""The most memory that a training step of each model of the parity suite takes, eager and compiled.

Measured by the device's own statistics over a warm step: everything that a step allocates counts, and
so do the intermediates inside of compiled programs. What lasts from step to step (parameters, buffers,
the optimizer's state, inputs) is shown apart; gradients are freed before a step, and are part of it. A
CPU model's tensors count only where a compiled program allocates them, so its figure leaves out what
the loss and the optimizer allocate.
"""

import argparse
import gc

import torch

from rustorch_device.parity.models import SUITE

from .suite import compiled, training_step

ARMS = {
    "eager": ("rustorch", None),
    "compiled": ("rustorch", "rust_backend"),
    "compiled, CPU model": ("cpu", "rust_backend"),
}


def peak(name: str, device: str, backend: str | None) -> tuple[int, int]:
    """Bytes that last, and the most that a step takes beside them."""
    torch._dynamo.reset()
    gc.collect()
    without = torch.rustorch.memory_allocated()
    torch.manual_seed(0)
    optimizer, step = training_step(SUITE[name](), device, compiled(backend) if backend else None)
    # The first call imports, and makes the optimizer's state.
    for _ in range(3):
        step()
    optimizer.zero_grad()
    gc.collect()
    lasting = torch.rustorch.memory_allocated()
    torch.rustorch.reset_peak_memory_stats()
    step()
    return lasting - without, torch.rustorch.max_memory_allocated() - lasting


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=SUITE, default=list(SUITE))
    torch._dynamo.config.allow_rnn = True
    print("| model | lasts, MiB | eager | " + " | ".join(f"{arm} | of eager" for arm in list(ARMS)[1:]) + " |")
    print("|---" * (1 + 2 * len(ARMS)) + "|")
    for name in parser.parse_args(given).models:
        measured = {arm: peak(name, *given) for arm, given in ARMS.items()}
        lasting, eager = measured["eager"]
        cells = [name, f"{lasting / 2**20:.2f}", f"{eager / 2**20:.2f}"]
        for arm in list(ARMS)[1:]:
            compiled = measured[arm][1]
            cells += [f"{compiled / 2**20:.2f}", f"{compiled / eager:.2f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
