"""The part of the conformance suite that `make test` runs; `make conformance` runs all of it.

Every entry of PyTorch's databases in f32, forward and backward (modules and optimizers: all their
f32 checks), and one in `SLICES` of the rest, another for each commit (`slices`).
"""

import pytest
import slices
from conformance import cases, golden, report, run
from conformance.cases import Case, Result
from conformance.pool import run_all

SLICES = 40
SAMPLES = 3
ALWAYS = {"forward", "backward", "train", "eval", "for_loop", "foreach", "fused"}


def is_chosen(case: Case, which: int | None = None) -> bool:
    if case.dtype == "float32" and case.check in ALWAYS:
        return True
    return slices.is_chosen(str(case), SLICES, which)


def test_every_case_is_in_one_slice_or_in_all() -> None:
    for op in ("add", "_foreach_add", "module nn.LSTM", "optimizer Adam"):
        for case in cases.cases(op):
            assert sum(is_chosen(case, which) for which in range(SLICES)) in (1, SLICES)


def test_expected_failures_name_cases() -> None:
    known = {str(case) for op in cases.ops() for case in cases.cases(op)}
    assert set(cases.expected_failures()) <= known
    assert set(golden.not_native()) <= known


def test_the_page_of_ops_is_what_is_known_of_them() -> None:
    assert run.PAGE.read_text() == report.ops_page(golden.known_results()), (
        "conformance.run --accept writes docs/ops.md"
    )


def test_a_lost_kernel_and_a_new_one_are_told() -> None:
    on_fallback = next(case for case, name in golden.not_native().items() if name == "fallback")
    op, check = on_fallback.split(" ", 1)
    assert golden.moved({op: {check: Result("pass", fallbacks={"aten::x": 1})}}) == []
    assert "listed as fallback" in golden.moved({op: {check: Result("pass")}})[0]
    assert (
        "fallback, aten::x" in golden.moved({"add": {"forward float32": Result("pass", fallbacks={"aten::x": 1})}})[0]
    )
    assert golden.moved({"add": {"forward float32": Result("pass")}}) == []


@pytest.mark.allow_fallback
def test_conformance() -> None:
    work = [(op, [case for case in cases.cases(op) if is_chosen(case)]) for op in cases.ops()]
    results: dict[str, dict[str, Result]] = {}
    run_all(work, results.__setitem__, processes=2, limit=SAMPLES)
    assert len(results) == len(cases.ops())
    wrong = report.surprises(results, cases.expected_failures()) + golden.moved(results)
    assert not wrong, "\n".join([f"{len(wrong)} surprises; {slices.header()}", *wrong])
