"""`make fuzz-calls`, or `PYTHONPATH=tests .venv/bin/python -m fuzz_calls.run --calls 100000`.

Exits with 1 where a call killed its process, took too long, or broke inside. `--only aten::addmm` picks ops;
`--seed` draws others; `--first 4711 --calls 1` makes one call again, by its number.
"""

import argparse
import importlib
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from fuzz_calls.drawing import Drawer, described
from fuzz_calls.recording import Call, kernels, record

#: Memory of a worker beyond what it has when it starts.
ROOM = 3 << 30
#: An overload that died so often is called no more.
MOST_DEATHS = 3
#: What a refusal never says.
BROKEN = ("panicked", "INTERNAL ASSERT")


@dataclass
class Plan:
    """What the workers do, and where they write what they find."""

    seed: int
    only: str
    patience: int
    load: str | None
    recorded: str
    log: str
    broken: str
    dead: set[str] = field(default_factory=set)


def _work(plan: Plan, first: int, last: int) -> None:
    """Makes the calls `first` to `last`, each written to the log before."""
    if plan.load:
        importlib.import_module(plan.load)
    torch.set_num_threads(2)
    torch.rustorch.set_fallback_policy("error")
    recorded = torch.load(plan.recorded, weights_only=False)
    overloads = [one for one in kernels() if plan.only in str(one).replace(".", "::", 1) and str(one) not in plan.dead]
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What an abort says goes to the log as well.
    out = os.open(plan.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 2)
    for number in range(first, last):
        draw = Drawer(random.Random(f"{plan.seed} {number}"))
        torch.manual_seed(number)
        overload = draw.random.choice(overloads)
        args, kwargs = _drawn(draw, overload, recorded.get(str(overload), []))
        text = f"{overload}({', '.join(filter(None, [described(args)[1:-1], described(kwargs)]))})"
        os.ftruncate(out, 0)
        os.write(out, f"{number} {overload} {text}\n".encode())
        signal.alarm(plan.patience)
        try:
            # Without inference mode, autograd refuses some arguments before they reach a kernel.
            with torch.inference_mode(draw.chance(0.5)):
                overload(*args, **kwargs)
        except Exception as error:
            # PyTorch's own iterator refuses a tensor that is not there by an assertion.
            if any(word in str(error) for word in BROKEN) and "undefined input tensor" not in str(error):
                with open(plan.broken, "a") as file:
                    file.write(f"broken: {number} {text} {' '.join(str(error).split())[:300]}\n")
        signal.alarm(0)
    os.ftruncate(out, 0)
    # The memory limit may leave no room to end in order.
    os._exit(0)


def _drawn(draw: Drawer, overload: Any, recorded: list[Call]) -> Call:
    """A call that reaches the device, unless it has no tensors."""
    while True:
        try:
            call = draw.call(overload, recorded)
        except RuntimeError:  # Not every tensor can be changed in every way.
            continue
        devices = {item.device.type for item in tree_flatten(call)[0] if isinstance(item, torch.Tensor)}
        if not devices or "rustorch" in devices:
            return call


def _run(plan: Plan, first: int, last: int) -> list[str]:
    """Makes calls in workers, a new one after each death; what was found."""
    found = []
    deaths: Counter[str] = Counter()
    log, broken = Path(plan.log), Path(plan.broken)
    while first < last:
        plan.dead = {name for name, count in deaths.items() if count >= MOST_DEATHS}
        process = multiprocessing.get_context("spawn").Process(target=_work, args=(plan, first, last))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        if not lines or not lines[0].split(" ")[0].isdigit():
            found.append(f"a worker ended with {process.exitcode} between calls: {lines[:3]}")
            break
        number, name, text = lines[0].split(" ", 2)
        first = int(number) + 1
        deaths[name] += 1
        found.append(f"{_ended(process.exitcode)} {number} {text}" + "".join(f"\n    {line}" for line in lines[1:3]))
        print(found[-1], flush=True)
    if broken.exists():
        found += broken.read_text().splitlines()
        print(broken.read_text(), flush=True)
    return found


def _ended(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended with {code}:"
    return "took too long:" if -code == signal.SIGALRM else f"{signal.Signals(-code).name}:"


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz_calls.run", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a part of the names of the ops to call, such as aten::addmm")
    parser.add_argument("--patience", type=int, default=60, help="seconds that a call may take")
    parser.add_argument("--load", help="a module to import first, which may register kernels")
    parser.add_argument("--recorded", help="where recorded calls are kept for the next time")
    options = parser.parse_args(given)
    with tempfile.TemporaryDirectory(prefix="fuzz_calls.") as folder:
        recorded = options.recorded or f"{folder}/recorded"
        if not Path(recorded).exists():
            process = multiprocessing.get_context("spawn").Process(target=record, args=(recorded,))
            process.start()
            process.join()
            if process.exitcode != 0:
                return 1
        log, broken = f"{folder}/log", f"{folder}/broken"
        plan = Plan(options.seed, options.only, options.patience, options.load, recorded, log, broken)
        found = _run(plan, options.first, options.first + options.calls)
    print(f"{options.calls} calls, {len(found)} that killed, hung or broke")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
