"""A fallback that a test does not allow is an error: native or visible."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import pytest
import torch

# What touches the memory of a capture's stand-ins ends a test's process, and is found. Without it, it would read
# zeros: `make nightly` runs the tests so, as users have it.
os.environ.setdefault("RUSTORCH_STAND_INS", "unreadable")

import slices

import rustorch_device  # noqa: F401  loads the device, whatever RUSTORCH_AUTOLOAD says

ROOT = Path(__file__).parent.parent


def pytest_report_header() -> str:
    return slices.header()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "allow_fallback: ops without a Rust kernel may run on the CPU in this test")


@pytest.fixture(autouse=True)
def fallback_policy(request: pytest.FixtureRequest) -> Iterator[None]:
    """`error`, or `silent` for tests marked `allow_fallback`."""
    allowed = request.node.get_closest_marker("allow_fallback") is not None
    before = torch.rustorch.set_fallback_policy("silent" if allowed else "error")
    yield
    torch.rustorch.set_fallback_policy(before)


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Every test draws the same each time, alone or after others, so that a failure repeats."""
    torch.manual_seed(0)
    numpy.random.seed(0)
    random.seed(0)


@pytest.fixture
def allow_fallback() -> Iterator[None]:
    """Lets ops without a Rust kernel run on the CPU: for a test that needs them beside its subject."""
    before = torch.rustorch.set_fallback_policy("silent")
    yield
    torch.rustorch.set_fallback_policy(before)


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    """Nothing is compiled or counted yet, and nothing stays."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


Python = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def python() -> Python:
    """Runs a program in a fresh interpreter: `python("print(1)", RUSTORCH_AUTOLOAD="0").stdout`."""

    def run(program: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": path, **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run
