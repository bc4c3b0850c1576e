"""`make limits`: every op of the database where memory is short: it refuses or does, and never ends the process.

The database's samples are made larger (its sizes S, M and L), so that what a kernel allocates is asked of the system.
"""

import argparse
import fnmatch
import os
import sys
from collections import Counter

# Before torch: no thread of OpenMP's may be there when this process forks.
os.environ["OMP_NUM_THREADS"] = "1"

import torch
from memory_limit import DONE, HARMED, REFUSED, under
from torch.utils._pytree import tree_flatten

from conformance.cases import ops
from conformance.checks import arguments_of, caller
from conformance.inputs import Mover, NotDense, evenly

SIZES = {"XS": (3, 16), "S": (5, 128), "M": (10, 160), "L": (20, 256)}
#: The bytes of a sample's tensors: enough that memory is asked of the system, few enough for many runs.
LEAST, MOST = 1 << 14, 1 << 26
SAMPLES = 3
LIMITS = [0, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24]
WORDS = {DONE: "done", REFUSED: "refused", HARMED: "refused, and an input has changed"}


def enlarge() -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("torch.testing._internal.") and ("common_methods" in name or ".opinfo." in name):
            for size, (usual, larger) in SIZES.items():
                if getattr(module, size, None) == usual:
                    setattr(module, size, larger)


def large_samples(op: object) -> list[object]:
    """A few of the op's samples in f32, on the device, that are neither small nor huge."""
    torch.manual_seed(0)
    dtype = torch.float32 if torch.float32 in op.dtypes else min(op.dtypes, key=str)
    found = []
    samples = iter(op.sample_inputs("cpu", dtype))
    while len(found) < 12:
        try:
            sample = next(samples, None)
        except Exception:  # Some of the database's own generators count on its sizes.
            break
        if sample is None:
            break
        tensors = [leaf for leaf in tree_flatten(arguments_of(sample))[0] if isinstance(leaf, torch.Tensor)]
        if LEAST <= sum(tensor.numel() * tensor.element_size() for tensor in tensors) <= MOST:
            found.append(arguments_of(sample))
    return evenly(found, SAMPLES)


def runs(op: object) -> list[str]:
    """How each run of the op went, in words."""
    words = []
    call = caller(op)
    for arguments in large_samples(op):
        try:
            moved = Mover("rustorch")(arguments)
            call(moved)
        except (NotDense, NotImplementedError):
            words.append("not native")
            continue
        except Exception as error:  # A sample that the larger sizes made wrong: the CPU refuses it too.
            words.append(f"not a sample ({type(error).__name__})")
            continue
        tensors = [leaf for leaf in tree_flatten(moved)[0] if isinstance(leaf, torch.Tensor)]
        before = [tensor.clone() for tensor in tensors]

        def unharmed(tensors: list[torch.Tensor] = tensors, before: list[torch.Tensor] = before) -> bool:
            pairs = zip(tensors, before, strict=True)
            return all(torch.equal(mine.nan_to_num(), theirs.nan_to_num()) for mine, theirs in pairs)

        for limit in LIMITS:
            end = under(limit, lambda moved=moved: call(moved), unharmed, seconds=120)
            words.append(WORDS.get(end, f"WRONG: {end} with {limit} bytes more"))
    return words


def in_child(op: object) -> list[str]:
    """`runs` in a child of its own, with the pool's threads: whatever it does, the next op starts afresh."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            torch.rustorch.set_fallback_policy("error")
            os.write(send, "\n".join(runs(op)).encode() or b"no large sample")
        except Exception as error:
            os.write(send, f"WRONG: {type(error).__name__}: {error}".splitlines()[0].encode())
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text.splitlines() or ["WRONG: no answer"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance.limits", description=__doc__)
    parser.add_argument("--ops", default="*", help="a pattern of op names, such as 'nn.functional.*'")
    pattern = parser.parse_args().ops
    every = {
        name: op
        for name, op in ops().items()
        if hasattr(op, "sample_inputs") and op.dtypes and fnmatch.fnmatch(name, pattern)
    }
    enlarge()
    seen: Counter[str] = Counter()
    wrong = 0
    for at, (name, op) in enumerate(every.items()):
        for word, count in Counter(in_child(op)).items():
            seen[word.split(" (")[0]] += count
            if word.startswith("WRONG") or word == WORDS[HARMED]:
                wrong += 1
                print(f"[{at}/{len(every)}] {name}: {word}", flush=True)
    print(f"{len(every)} ops:", ", ".join(f"{count} {kind}" for kind, count in sorted(seen.items())))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
