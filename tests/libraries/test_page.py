"""The lines of docs/libraries.md run, with all of its libraries installed."""

import pytest
from test_snippets import OF_LIBRARIES, run_page

for name in ("accelerate", "lightning", "transformers", "peft", "safetensors", "timm", "torchmetrics", "skorch"):
    pytest.importorskip(name, reason=f"{name} is not installed: `make libraries` installs it")


def test_the_pages_lines_run(tmp_path):
    done = run_page(OF_LIBRARIES, tmp_path)
    assert done.returncode == 0, done.stderr
