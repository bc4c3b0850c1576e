"""Models: inference and a training step, each model in a process of its own, as Dynamo keeps state by class.

`python -m benches.suite MODEL MODE --results FILE` is such a process; `python -m benches.run --only suite` starts them.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rustorch_device.parity.models import Case as Compared
from rustorch_device.parity.run import prepared

from . import peers
from .harness import QUICK, Arm, Case, Effort, Result, made, measure, size, threads
from .models import BOTH, INFERENCE, MODELS, TRAINING

#: A process that takes longer than this hangs.
PATIENCE_SECONDS = 900
SUITE_SECONDS = 10.0

Compile = Callable[[nn.Module], Callable]


def compiled(backend: str, **options: bool) -> Compile:
    return partial(torch.compile, backend=backend, dynamic=False, options=options or None)


def inference(model: Compared, device: str, compile: Compile | None) -> Arm:
    module, inputs = prepared(model, device, torch.float32)
    module.eval()
    run = compile(module) if compile else module

    def call() -> torch.Tensor:
        with torch.no_grad():
            return run(*inputs)

    return call


def training_step(
    model: Compared,
    device: str,
    compile: Compile | None,
    optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
    layout: torch.memory_format = torch.contiguous_format,
) -> tuple[torch.optim.Optimizer, Arm]:
    """An optimizer, and a step of it."""
    module, inputs = prepared(model, device, torch.float32)
    module.to(memory_format=layout)
    inputs = tuple(value.contiguous(memory_format=layout) if value.dim() == 4 else value for value in inputs)
    momentum = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    taken = optimizer(module.parameters(), lr=1e-4, **momentum)
    run = compile(module) if compile else module

    def call() -> torch.Tensor:
        taken.zero_grad()
        loss = model.loss(run(*inputs))
        loss.backward()
        taken.step()
        return loss

    return taken, call


def flops(model: Compared, mode: str) -> int:
    """The multiplications and additions of a call: of products, convolutions and attention."""
    module, inputs = prepared(model, "cpu", torch.float32)
    module.train(mode == TRAINING)
    # What it counts are these products: not a whole LSTM, nor an attention that is one op.
    plain = (torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH))
    with plain[0], plain[1], FlopCounterMode(display=False) as counter:
        result = module(*inputs)
        if mode == TRAINING:
            model.loss(result).backward()
    return counter.get_total_flops()


def makers(
    name: str, mode: str, thread_count: int, arms: str, exported: peers.Exported
) -> dict[str, Callable[[], Arm]]:
    """What makes each arm, the peer first."""
    entry = MODELS[name]
    torch.manual_seed(0)
    model = entry.make()

    def arm(device: str, compile: Compile | None = None, **more) -> Callable[[], Arm]:
        if mode == INFERENCE:
            return lambda: inference(copy.copy(model), device, compile)
        return lambda: training_step(copy.copy(model), device, compile, entry.optimizer, **more)[1]

    ours = compiled("rust_backend")
    wanted = {"cpu": arm("cpu")}
    if arms != "few":
        wanted["inductor"] = arm("cpu", compiled("inductor"))
    if arms == "peers" and mode == INFERENCE:
        wanted["inductor, frozen"] = arm("cpu", compiled("inductor", freezing=True))
        wanted["onnxruntime"] = partial(peers.onnxruntime, exported, thread_count)
        wanted["openvino"] = partial(peers.openvino, exported, thread_count)
    if arms == "peers" and mode == TRAINING and model.inputs[0].dim() == 4:
        wanted["cpu, channels_last"] = arm("cpu", layout=torch.channels_last)
    wanted |= {"rustorch": arm("rustorch"), "rust_backend": arm("rustorch", ours)}
    if arms == "peers":
        wanted["rust_backend, CPU model"] = arm("cpu", ours)
        if mode == INFERENCE:
            wanted["rust_backend, CPU model, keep_weights"] = arm("cpu", compiled("rust_backend", keep_weights=True))
    return wanted


def here(name: str, mode: str, counts: list[int], arms: str, effort: Effort) -> Iterator[Result]:
    """Measures a model in this process."""
    torch._dynamo.config.allow_rnn = True
    torch.manual_seed(0)
    model = MODELS[name].make()
    counted = flops(model, mode)
    module, inputs = prepared(model, "cpu", torch.float32)
    # What a call reads at least: of an embedding's rows only those of its tokens.
    rows = {weight for part in module.modules() if isinstance(part, nn.Embedding) for weight in part.parameters()}
    read = size([[weight for weight in module.parameters() if weight not in rows], inputs])
    with tempfile.TemporaryDirectory() as folder:
        exported = peers.Exported(module.eval(), inputs, Path(folder))
        for count in counts:
            # Dynamo stops compiling a function that it has seen in many forms; a number of threads is another.
            torch._dynamo.reset()
            with threads(count):
                ready, failures = made(makers(name, mode, count, arms, exported))
            # Later losses of a step move apart by rounding; the parity suite compares.
            tolerance = 1e-2 if mode == INFERENCE else None
            case = Case("suite", f"{name}, {mode}", ready, tolerance, counted, read, failures)
            yield from measure(case, count, effort)


def process(name: str, mode: str, counts: list[int], arms: str, quick: bool, samples: int) -> Iterator[Result]:
    """Measures a model in a process of its own. One that ends early has its failure as a result."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.json"
        command = [sys.executable, "-m", "benches.suite", name, mode, "--results", str(file), "--arms", arms]
        command += ["--samples", str(samples), "--threads", *map(str, counts), *(["--quick"] if quick else [])]
        root = Path(__file__).parent.parent
        try:
            done = subprocess.run(
                command, cwd=root, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
            )
            failure = f"ended with {done.returncode}: {(done.stderr.strip().splitlines() or [''])[-1]}"
        except subprocess.TimeoutExpired:
            failure = f"took longer than {PATIENCE_SECONDS} s"
        results = [Result(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []
    yield from results
    for count in counts:
        if not any(result.threads == count for result in results):
            yield Result.failed(Case("suite", f"{name}, {mode}", {}), count, "process", failure)


def results(quick: bool, counts: list[int], arms: str, names: list[str] | None, samples: int) -> Iterator[Result]:
    for name in names or list(MODELS)[: 1 if quick else None]:
        for mode in MODELS[name].modes:
            yield from process(name, mode, counts, arms, quick, samples)


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.suite", description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("mode", choices=BOTH)
    parser.add_argument("--results", type=Path, required=True, help="where each result is written, a line of JSON each")
    parser.add_argument("--arms", choices=("few", "inductor", "peers"), default="few")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--samples", type=int, default=Effort.samples)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(given)
    effort = QUICK if options.quick else Effort(samples=options.samples, case_seconds=SUITE_SECONDS)
    with options.results.open("w") as file:
        for result in here(options.model, options.mode, options.threads, options.arms, effort):
            print(json.dumps(result.to_dict()), file=file, flush=True)


if __name__ == "__main__":
    main()
