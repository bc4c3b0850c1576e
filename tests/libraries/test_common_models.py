"""transformers' own common model tests: what they find of the device that they do not find of the CPU."""

import sys

import pytest

pytest.importorskip("transformers", reason="transformers is not installed: `make libraries` installs it")

from libraries.common_models import run


def test_the_device_fails_where_the_cpu_does():
    counts, alone = run.compare()
    print(counts, file=sys.stderr)
    assert not alone
    # The same tests as on the CPU, and those that only an accelerator runs.
    assert counts["rustorch"]["passed"] >= counts["cpu"]["passed"] > 2000
    assert counts["rustorch"]["failed"] <= counts["cpu"]["failed"]
