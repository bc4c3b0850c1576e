"""Which tests of several processes run."""

import os

import pytest
import torch

needs_gloo = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="torch has no gloo"
)
#: `make distributed` sets it; `make test` keeps to a slice.
EVERY_CASE = os.environ.get("DISTRIBUTED_TESTS") == "all"
every_case = pytest.mark.skipif(
    not EVERY_CASE, reason="takes minutes: `make distributed` runs it (DISTRIBUTED_TESTS=all)"
)
#: Groups of two processes always, and of three.
WORLDS = [2, pytest.param(3, marks=every_case)]
