"""Random programs, eager and compiled, on the CPU and on rustorch, against CPU eager.

`PYTHONPATH=tests python -m fuzz.run` prints a failing program, made small, as a script; its exit status is 1 then.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

from fuzz.arms import ARMS
from fuzz.batches import child_command, run_batch, run_here


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description=__doc__)
    parser.add_argument("--examples", type=int, default=1000, help="how many programs; 1000 if not given")
    parser.add_argument(
        "--seed", type=int, default=0, help="the first batch's seed: the same one gives the same programs"
    )
    parser.add_argument("--only", choices=["cpu", "rustorch"], help="the device of the arms")
    parser.add_argument("--strides", action="store_true", help="results must have CPU eager's strides too")
    parser.add_argument("--keep-going", action="store_true", help="go on with the next batch after a failure")
    parser.add_argument("--batch", type=int, default=50, help="programs in a process")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds that a batch may take")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    wanted = arguments()
    arms = [arm for arm in ARMS if wanted.only in (None, arm.device)]
    if wanted.into is not None:
        torch.set_num_threads(1)
        run_here(wanted.examples, wanted.seed, arms, wanted.strides, wanted.into)
        return 0
    programs = excused = failures = 0
    started = time.monotonic()
    for number, first in enumerate(range(0, wanted.examples, wanted.batch)):
        seed, examples = wanted.seed + number, min(wanted.batch, wanted.examples - first)
        result = run_batch(child_command(examples, seed, wanted.only, wanted.strides), wanted.timeout)
        programs += result.programs
        excused += result.excused
        if result.failure:
            failures += 1
            print(f"seed {seed}, after {result.programs} programs: {result.failure}", flush=True)
            if not wanted.keep_going:
                break
        else:
            print(f"seed {seed}: {programs} programs, {time.monotonic() - started:.0f} s", flush=True)
    verdict = f"{failures} failures" if failures else "all agree"
    print(f"{programs} programs, {len(arms)} arms, {verdict} ({excused} differ as PyTorch's own tracing does)")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
