"""The part of the conformance suite that `make test` runs; `make conformance` runs all of it.

Every entry of PyTorch's databases in f32, forward and backward (modules and optimizers: all their
f32 checks). RUSTORCH_CONFORMANCE_SLICE=N adds one in `SLICES` of the rest, slice N.
"""

import os
import zlib

import pytest
from conformance import cases, report
from conformance.cases import Case, Result
from conformance.pool import run_all

SLICES = 40
SAMPLES = 3
ALWAYS = {"forward", "backward", "train", "eval", "for_loop", "foreach", "fused"}


def wanted_slice() -> int | None:
    which = os.environ.get("RUSTORCH_CONFORMANCE_SLICE")
    return int(which) if which else None


def is_chosen(case: Case, which: int | None) -> bool:
    if case.dtype == "float32" and case.check in ALWAYS:
        return True
    return zlib.crc32(str(case).encode()) % SLICES == which


def test_every_case_is_in_one_slice_or_in_all() -> None:
    for op in ("add", "_foreach_add", "module nn.LSTM", "optimizer Adam"):
        for case in cases.cases(op):
            assert sum(is_chosen(case, which) for which in range(SLICES)) in (1, SLICES)


def test_expected_failures_name_cases() -> None:
    known = {str(case) for op in cases.ops() for case in cases.cases(op)}
    assert set(cases.expected_failures()) <= known


@pytest.mark.allow_fallback
def test_conformance() -> None:
    which = wanted_slice()
    work = [(op, [case for case in cases.cases(op) if is_chosen(case, which)]) for op in cases.ops()]
    results: dict[str, dict[str, Result]] = {}
    run_all(work, results.__setitem__, processes=2, limit=SAMPLES)
    assert len(results) == len(cases.ops())
    wrong = report.surprises(results, cases.expected_failures())
    assert not wrong, "\n".join([f"{len(wrong)} surprises", *wrong])
