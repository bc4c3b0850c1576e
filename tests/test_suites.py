"""How the outcomes of other people's suites are read and held against what is expected."""

import pytest
from suites import run
from suites.outcomes import AS_THE_CPU, Expected, case_name, covers, expected_failures, summarise


def test_a_name_holds_wherever_a_suite_is_installed():
    assert case_name("../../build/torchcts/operators/test_misc.py::test_x[a/b::c]") == "test_misc.py::test_x[a/b::c]"
    assert covers("test_misc.py::test_x[*]", "test_misc.py::test_x[dtype0]")
    assert not covers("test_misc.py::test_x[dtype0]", "test_misc.py::test_xd")


def test_surprises_are_failures_that_are_not_listed_and_listed_ones_that_are_none():
    cases = {
        "f.py::known": ("failed", ""),
        "f.py::mended": ("passed", ""),
        "f.py::wrong": ("failed", "it differs"),
        "f.py::ended": ("crashed", "it ended the process"),
        "f.py::as_there": ("failed", "the CPU too"),
        "f.py::left_out": ("skipped", "needs two devices"),
        "f.py::fine": ("passed", ""),
    }
    expected = [Expected("s", "A reason.", ("f.py::known", "f.py::mended", "f.py::gone", "f.py::as_*"))]
    summary = summarise("s", cases, expected, on_cpu=["f.py::as_there"])
    assert summary.surprises == [
        "f.py::mended passed, and is expected to fail: A reason.",
        "f.py::wrong failed: it differs",
        "f.py::ended crashed: it ended the process",
        "no case of s is called f.py::gone",
    ]
    assert summary.outcomes == {"expected": 2, "passed": 2, "failed": 1, "crashed": 1, "skipped": 1}
    assert summary.reasons == {"A reason.": 1, AS_THE_CPU: 1}
    assert "| s | 6 | 2 | 2 | 2 | 1 |" in run.page([summary])


def test_the_list_has_a_reason_for_each_case():
    for suite in run.SUITES:
        for entry in expected_failures(suite):
            assert len(entry.reason.split()) > 3 and entry.cases


CASES = """
import os, pytest

def test_fine(): pass
def test_wrong(): assert 1 == 2
def test_ends(): os._exit(3)
@pytest.mark.skip(reason="needs two devices")
def test_left_out(): pass
def test_last(): pass
"""


def test_a_case_that_ends_the_process_is_written_down_and_the_others_go_on(tmp_path):
    (tmp_path / "test_cases.py").write_text(CASES)
    record, only = tmp_path / "record.jsonl", tmp_path / "only.txt"
    suite = run.Suite("mine", [str(tmp_path / "test_cases.py"), f"--rootdir={tmp_path}"], tmp_path, [])
    cases = {case.rpartition("::")[2]: outcome for case, outcome in run.run(suite, [], record).items()}
    assert cases == {
        "test_fine": ("passed", ""),
        "test_wrong": ("failed", "assert 1 == 2"),
        "test_ends": ("crashed", "it ended the process, or took too long"),
        "test_left_out": ("skipped", "needs two devices"),
        "test_last": ("passed", ""),
    }
    # After the crash, what was known is not run again.
    assert record.read_text().count("test_fine") == 2
    only.write_text("test_cases.py::test_last")
    assert list(run.run(suite, [], tmp_path / "again.jsonl", only)) == ["test_cases.py::test_last"]


def test_tables_go_between_the_pages_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Title\n<!-- results -->\nold\n<!-- end of results -->\nrest\n")
    run.write(page, "new")
    assert page.read_text() == "# Title\n<!-- results -->\n\nnew\n\n<!-- end of results -->\nrest\n"
    assert "<!-- results -->" in (run.ROOT / "docs" / "conformance.md").read_text()


def test_a_folder_without_pytorchs_tests_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTORCH_TESTS", str(tmp_path))
    with pytest.raises(SystemExit, match=r"has none of test_binary_ufuncs\.py"):
        run.upstream()
    (tmp_path / "test_torch.py").write_text("")
    suite = run.upstream()
    assert suite is not None and suite.arguments[0] == str(tmp_path / "test_torch.py")
    monkeypatch.delenv("PYTORCH_TESTS")
    assert run.upstream() is None


def test_a_case_of_pytorchs_own_tests_has_a_name_on_the_cpu():
    case = "test_view_ops.py::TestViewOpsRUSTORCH::test_imag_noncomplex_rustorch_int8"
    assert run.made_for_cpu(case) == "test_view_ops.py::TestViewOpsCPU::test_imag_noncomplex_cpu_int8"
    case = "test_dlpack.py::TestTorchDlPackPRIVATEUSE1::test_dlpack_export_is_conj_rustorch"
    assert run.made_for_cpu(case) == "test_dlpack.py::TestTorchDlPackCPU::test_dlpack_export_is_conj_cpu"


def test_the_rows_of_suites_that_did_not_run_stay():
    old = run.page(
        [summarise("torchcts", {"f.py::known": ("failed", "")}, [Expected("torchcts", "A reason.", ("*",))])]
    )
    new = run.page([summarise("databases", {"f.py::fine": ("passed", "")}, [])], f"# Title\n| a | b |\n{old}\n")
    assert "| databases | 1 | 1 | 0 | 0 | 0 |\n| torchcts | 1 | 0 | 0 | 1 | 0 |\n\n" in new
    assert new.endswith("| A reason. | torchcts | 1 |") and "Title" not in new and "| a |" not in new
    assert run.page([summarise("torchcts", {"f.py::fine": ("passed", "")}, [])], old).count("torchcts") == 1
