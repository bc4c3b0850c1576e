"""Other people's suites on the device: `make suites`, or one of them.

Goes on where it was stopped; made anew when the extension has been rebuilt. Exits with 1 where a case fails that is
not expected to (`expected_failures.toml`), or passes though it is.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rustorch_device import _C
from suites.outcomes import CRASHED, FAILURES, Summary, expected_failures, read, summarise

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "suites"
#: Seconds that a case may take.
LONGEST = 300
#: Crashes after which a suite is not started again.
MOST_CRASHES = 100

TORCHCTS = "torchcts==0.4.1"
#: Its tests that people wrote. Those that it makes of PyTorch's database of ops ask what `conformance` asks.
TORCHCTS_FOLDERS = (
    "autograd",
    "compiler",
    "device_api",
    "dtypes",
    "errors",
    "memory",
    "operators",
    "rng",
    "serialization",
    "stress",
    "strides",
    "training",
    "workloads",
)
#: Of PyTorch's own `test/` folder: the files whose tests are made for every kind of device.
UPSTREAM = (
    "test_binary_ufuncs.py",
    "test_complex.py",
    "test_dlpack.py",
    "test_foreach.py",
    "test_indexing.py",
    "test_modules.py",
    "test_nn.py",
    "test_ops.py",
    "test_ops_fwd_gradients.py",
    "test_ops_gradients.py",
    "test_optim.py",
    "test_reductions.py",
    "test_scatter_gather_ops.py",
    "test_shape_ops.py",
    "test_sort_and_select.py",
    "test_tensor_creation_ops.py",
    "test_torch.py",
    "test_type_promotion.py",
    "test_unary_ufuncs.py",
    "test_view_ops.py",
)


@dataclass
class Suite:
    """How a suite is started: what pytest is given, in which folder, with which folders of Python."""

    name: str
    arguments: list[str]
    folder: Path
    paths: list[Path]
    #: What pytest is given to run it on PyTorch's CPU; None where the suite compares with the CPU itself.
    on_cpu: list[str] | None = None
    #: The kind of device that PyTorch's own test classes are made for, and what a case is called on the CPU.
    kind: str = "privateuse1"
    name_on_cpu: Callable[[str], str] = str


def databases() -> Suite:
    return Suite("databases", [str(HERE / "databases.py")], ROOT, [])


def torchcts() -> Suite:
    """TorchCTS, which is installed beside the project's environment: it asks for an older torch."""
    place = ROOT / "build" / TORCHCTS
    if not place.exists():
        install = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            str(place),
            TORCHCTS,
            "psutil",
        ]
        subprocess.run(install, check=True)
    tests = [str(place / "torchcts" / folder) for folder in TORCHCTS_FOLDERS]
    tests += ["--results-dir", str(BUILD / "torchcts"), "--device"]
    # It reads its manifest from the folder that it is started in.
    return Suite("torchcts", [*tests, "rustorch"], HERE, [place], on_cpu=[*tests, "cpu"])


def upstream() -> Suite | None:
    """PyTorch's own tests, where `PYTORCH_TESTS` names the `test` folder of a checkout at torch's tag."""
    if not os.environ.get("PYTORCH_TESTS"):
        return None
    folder = Path(os.environ["PYTORCH_TESTS"]).resolve()
    files = [str(folder / name) for name in UPSTREAM if (folder / name).is_file()]
    if not files:
        raise SystemExit(f"PYTORCH_TESTS={folder} has none of {', '.join(UPSTREAM)}")
    # The tests that are made for a device have it in the name of their class. What PyTorch's CPU fails, here or in
    # a checkout of another version, says nothing of this device.
    here = [*files, "-k", "PRIVATEUSE1 or RUSTORCH"]
    return Suite("upstream", here, folder, [folder], on_cpu=[*files, "-k", "CPU"], name_on_cpu=made_for_cpu)


def made_for_cpu(case: str) -> str:
    """The name, on the CPU, of a case that was made for the device."""
    return re.sub(r"(PRIVATEUSE1|RUSTORCH)(?=::)", "CPU", case).replace("_rustorch", "_cpu")


SUITES = {"databases": databases, "torchcts": torchcts, "upstream": upstream}


def run(suite: Suite, more: list[str], record: Path, only: Path | None = None) -> dict[str, tuple[str, str]]:
    """Runs what its record does not have yet; a case that ends the process does not end the suite."""
    command = [sys.executable, "-m", "pytest", "-p", "suites.record", "-p", "no:cacheprovider", "-q", "--noconftest"]
    if suite.name != "databases":
        command.remove("--noconftest")
    # A file of another version that cannot be imported is a failure, and the others go on.
    command += [
        "--continue-on-collection-errors",
        "--tb=no",
        "--no-header",
        "-W",
        "ignore",
        "-o",
        f"timeout={LONGEST}",
        *suite.arguments,
        *more,
    ]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, [*suite.paths, HERE.parent, ROOT])),
        "RUSTORCH_SUITE_RECORD": str(record),
        "RUSTORCH_FALLBACK": "silent",
        "PYTORCH_TESTING_DEVICE_ONLY_FOR": suite.kind,
    }
    if only is not None:
        environment["RUSTORCH_SUITE_ONLY"] = str(only)
    while True:
        crashed = sum(outcome == CRASHED for outcome, _ in read(record).values())
        # 0: all passed; 1: some failed; 5: none was left to run.
        ended = subprocess.run(command, cwd=suite.folder, env=environment).returncode
        crashes = sum(outcome == CRASHED for outcome, _ in read(record).values())
        if ended in (0, 1, 5) or crashes == crashed or crashes > MOST_CRASHES:
            return read(record)


def outcomes(suite: Suite, more: list[str]) -> Summary:
    """Runs a suite; what fails, where the suite alone says what is right, on PyTorch's CPU too."""
    BUILD.mkdir(parents=True, exist_ok=True)
    built = Path(_C.__file__).stat().st_mtime_ns
    cases = run(suite, more, BUILD / f"{suite.name}-{built}.jsonl")
    failed = [case for case, (outcome, _) in cases.items() if outcome in FAILURES]
    on_cpu: list[str] = []
    if suite.on_cpu is not None and failed:
        only = BUILD / f"{suite.name}-failed.txt"
        only.write_text("\n".join(map(suite.name_on_cpu, failed)))
        there = replace(suite, arguments=suite.on_cpu, kind="cpu")
        again = run(there, more, BUILD / f"{suite.name}-cpu-{built}.jsonl", only)
        on_cpu = [case for case in failed if again.get(suite.name_on_cpu(case), ("", ""))[0] in FAILURES]
    return summarise(suite.name, cases, expected_failures(suite.name), on_cpu)


def page(summaries: list[Summary], others: str = "") -> str:
    """The results as tables, with the rows of `others`, a page that was written before, of suites that did not run."""
    ran = {summary.suite for summary in summaries}
    rows = [(line, line.strip("| ").split(" | ")) for line in others.splitlines() if line.startswith("| ")]
    kept = [(line, cells) for line, cells in rows if not ran & {cells[0], cells[-2]}]
    lines = [
        "| suite | cases run | passed | failed | expected failures | skipped by the suite |",
        "|---|---|---|---|---|---|",
    ]
    for summary in summaries:
        outcomes = summary.outcomes
        failed = outcomes["failed"] + outcomes[CRASHED]
        ran = outcomes["passed"] + failed + outcomes["expected"]
        numbers = (ran, outcomes["passed"], failed, outcomes["expected"], outcomes["skipped"])
        lines.append(f"| {summary.suite} | {' | '.join(map(str, numbers))} |")
    lines += [line for line, cells in kept if cells[0] in SUITES]
    lines += ["", "| expected failures | suite | cases |", "|---|---|---|"]
    for summary in summaries:
        for reason, count in sorted(summary.reasons.items(), key=lambda item: (-item[1], item[0])):
            lines.append(f"| {' '.join(reason.split())} | {summary.suite} | {count} |")
    lines += [line for line, cells in kept if cells[-2] in SUITES]
    return "\n".join(lines)


def write(path: Path, tables: str) -> None:
    """Puts the tables between the page's two marks."""
    text = path.read_text()
    marked = re.compile(r"(<!-- results -->\n).*(<!-- end of results -->)", re.DOTALL)
    path.write_text(marked.sub(lambda match: f"{match[1]}\n{tables}\n\n{match[2]}", text))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m suites.run", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; all of them by default")
    parser.add_argument("--only", metavar="EXPRESSION", help="cases whose names fit, as pytest's -k takes them")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="rewrite the tables of this page")
    options = parser.parse_args()
    if unknown := set(options.suites) - set(SUITES):
        parser.error(f"no suite is called {', '.join(sorted(unknown))}")
    summaries = []
    for name in options.suites or SUITES:
        suite = SUITES[name]()
        if suite is None:
            print("upstream: PYTORCH_TESTS names no folder with PyTorch's tests, so they are not run", flush=True)
            continue
        summaries.append(outcomes(suite, ["-k", options.only] if options.only else []))
    if options.write:
        write(options.write, page(summaries, options.write.read_text()))
    print(page(summaries))
    surprises = [surprise for summary in summaries for surprise in summary.surprises]
    print("\n".join(surprises) if surprises else "Every case went as expected.")
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
