"""Every snippet and command of the documentation does what it says, or at least can be typed."""

import contextlib
import doctest
import functools
import importlib.util
import io
import itertools
import os
import re
import runpy
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from unittest import mock

import pytest
import snippets
from snippets import PAGES, ROOT

#: The page whose Python needs the libraries that it is about: `make libraries` runs it.
OF_LIBRARIES = ROOT / "docs" / "libraries.md"
WITH_PYTHON = [
    page
    for page in PAGES
    if page != OF_LIBRARIES and any(block.language == "python" for block in snippets.blocks(page))
]
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if "__main__" in path.read_text())
#: Folders of the project: a path that begins with one must be there.
FOLDERS = [path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
BUILT = ("build", "dist", "target")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def run_page(page: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Runs the page's Python in a new process, in a folder of its own."""
    (folder / page.name).write_text(snippets.program(page))
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, page.name],
        env=os.environ | {"PYTHONPATH": path, "RUSTORCH_FALLBACK": "error"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_the_pages_python_runs_and_prints_what_it_says(page, tmp_path):
    done = run_page(page, tmp_path)
    assert done.returncode == 0, done.stderr
    for block in snippets.blocks(page):
        if "output" in block.marks:
            same = doctest.OutputChecker().check_output(block.code, done.stdout, doctest.ELLIPSIS)
            assert same, f"{block} says\n{block.code}\nand this is printed\n{done.stdout}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_is_run_or_checked_or_says_why_not(page):
    for block in snippets.blocks(page):
        assert block.language in ("", "python", "sh", "rust"), f"{block} is in a language that no test knows"
        assert len(block.marks.get("not run", "a reason given").split()) > 2, f"{block} gives no reason"


@functools.cache
def rust_sources() -> str:
    files = [*(ROOT / "rust").rglob("*.rs"), *(ROOT / "tests" / "rust").glob("*.rs")]
    return " ".join(" ".join(path.read_text().split()) for path in sorted(files))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_rust_is_quoted_from_the_sources(page):
    for block in snippets.blocks(page):
        if block.language == "rust" and "not run" not in block.marks:
            assert " ".join(block.code.split()) in rust_sources(), f"{block} is not in the sources"


def is_own(module: str) -> bool:
    return module.partition(".")[0] in ("rustorch_device", "benches", "conformance", "fuzz", "fuzz_calls", "suites")


@functools.cache
def help_of(module_or_file: str, subcommand: str = "") -> str:
    """What `--help` says. The project's own programs run in this process, which has torch already."""
    arguments = [module_or_file, *filter(None, [subcommand]), "--help"]
    if not is_own(module_or_file) and not module_or_file.endswith(".py"):
        done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout
    said = io.StringIO()
    with mock.patch.object(sys, "argv", arguments), contextlib.redirect_stdout(said), pytest.raises(SystemExit) as end:
        if module_or_file.endswith(".py"):
            runpy.run_path(str(ROOT / module_or_file), run_name="__main__")
        else:
            runpy.run_module(module_or_file, run_name="__main__", alter_sys=True)
    assert end.value.code in (0, None)
    return said.getvalue()


def python_faults(words: list[str], options: list[str]) -> list[str]:
    """What a call of Python names and there is not: a module or file, or one of its options."""
    if words[0] != "-m":
        program, words = words[0], words[1:]
        if re.search("[A-Z]", program):
            return []  # A name in capitals stands for one of the reader's.
        if not (ROOT / program).is_file():
            return [f"there is no file {program}"]
    else:
        program, words = words[1], words[2:]
        if is_own(program) and importlib.util.find_spec(program) is None:
            return [f"there is no module {program}"]
    if not options:
        return []
    subcommand = words[0] if words and re.fullmatch("[a-z]+", words[0]) else ""
    known = re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", help_of(program, subcommand))
    return [f"{program} has no option {option}" for option in options if option not in known]


def make_faults(words: list[str]) -> list[str]:
    makefile = (ROOT / "Makefile").read_text()
    targets = " ".join(re.findall(r"^([a-z0-9 -]+):", makefile, re.MULTILINE)).split()
    variables = re.findall(r"^(?:export )?(\w+) \?=", makefile, re.MULTILINE)
    names = {word.partition("=")[0]: variables if "=" in word else targets for word in words}
    return [f"the Makefile has no {name}" for name, known in names.items() if name not in known]


def cargo_faults(words: list[str], folder: Path) -> list[str]:
    """What a call of cargo names and there is not: a crate, a test or bench of it, a fuzz target."""
    if words[:3] == ["+nightly", "fuzz", "run"]:
        return [] if (folder / "fuzz" / "fuzz_targets" / f"{words[3]}.rs").is_file() else [f"no target {words[3]}"]
    manifests = [tomllib.loads(path.read_text()) for path in (ROOT / "rust").glob("*/Cargo.toml")]
    crates = {manifest["package"]["name"]: manifest for manifest in manifests}
    given = list(itertools.pairwise(words))
    chosen = [crate for option, crate in given if option == "-p"] or list(crates)
    faults = [f"there is no crate {crate}" for crate in chosen if crate not in crates]
    for kind in ("test", "bench"):
        known = {target["name"] for crate in chosen for target in crates.get(crate, {}).get(kind, [])}
        faults += [
            f"there is no {kind} {name}" for option, name in given if option == f"--{kind}" and name not in known
        ]
    return faults


def faults(line: str) -> list[str]:
    """What a line of shell names and there is not. Options of a comment belong to the line's program."""
    found = []
    folder = ROOT
    for words in snippets.commands(line):
        program, *rest = words
        program = program.rpartition("/")[2]
        options = [word.partition("=")[0] for word in rest if re.match("--?[a-zA-Z]", word) and word != "-m"]
        options += re.findall(r"--[a-z-]+", line.partition(" #")[2])
        if program == "cd":
            folder = ROOT / rest[0]
            found += [] if folder.is_dir() else [f"there is no folder {rest[0]}"]
        elif program == "make":
            found += make_faults(rest)
        elif program == "cargo":
            found += cargo_faults(rest, folder)
        elif program in ("python", "python3"):
            found += python_faults(rest, options)
        elif program == "torchrun":
            found += python_faults(["-m", "torch.distributed.run"], options)
        elif program == "pip":
            found += python_faults(["-m", "pip", rest[0]], options)
        else:
            found.append(f"no test knows {program}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_name_what_there_is(page):
    wrong = {line: found for line in snippets.shell_lines(page) if (found := faults(line))}
    assert not wrong


@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_an_examples_head_shows_calls_that_it_takes(example):
    head = example.read_text().split('"""')[1]
    lines = [line.strip() for line in head.splitlines() if line.startswith("    python ")]
    assert name(example) in " ".join(lines), f"{name(example)} does not show how it is called"
    assert not [found for line in lines for found in faults(line)]


def test_paths_in_the_prose_are_there():
    missing = []
    for page in PAGES:
        for span in snippets.spans(page):
            first, slash, _ = span.partition("/")
            is_path = slash and first in FOLDERS and first not in BUILT and re.fullmatch(r"[\w./-]+", span)
            # A name in capitals is the reader's, and that of an extension module goes on with the machine's.
            if is_path and not re.search("[A-Z]", span) and not list(ROOT.glob(f"{span.rstrip('/')}*")):
                missing.append(f"{name(page)}: {span}")
    assert not missing


def test_links_lead_to_files():
    missing = []
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in link and not (page.parent / link).exists():
                missing.append(f"{name(page)}: {link}")
    assert not missing


def test_wrong_commands_are_found():
    """The checks themselves: each of these names something that there is not."""
    for line in (
        "make dmeo",
        "make test PROGRAMMES=3",
        "python -m rustorch_device.parities",
        "python -m rustorch_device.parity --modles gpt",
        "python -m rustorch_device.parity  # also --modles",
        "python examples/char_gtp.py",
        "cargo test -p rustorch-kernel",
        "cargo test -p rustorch-kernels --test no_such_test",
        "cd rust/checkpoint && cargo +nightly fuzz run opened",
        "pip install --no-build-isolated .",
        "frobnicate --all",
    ):
        assert len(faults(line)) == 1, line


def test_the_readme_lists_every_example():
    listed = re.findall(r"^- \[`(\w+\.py)`\]\(examples/\1\): ", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert Counter(listed) == Counter(path.name for path in EXAMPLES)
