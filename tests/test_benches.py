"""The harness measures, compares and renders; the benches run."""

import json
import time

import pytest
import torch

from benches import checkpoint, distributed, memory, plot, records, render, run
from benches import compare as comparing
from benches.harness import QUICK, Case, Differs, Effort, Result, compare, measure


def case(tolerance: float | None = 1e-3, **arms) -> Case:
    return Case("bench", "case", arms, tolerance)


def test_ratios_are_the_peers_time_over_the_arms():
    peer, fast = measure(case(None, cpu=lambda: time.sleep(4e-3), fast=lambda: time.sleep(1e-3)), 1, QUICK)
    assert (peer.arm, peer.ratio_best, peer.ratio_median) == ("cpu", 1.0, 1.0)
    assert (fast.arm, fast.peer, fast.threads) == ("fast", "cpu", 1)
    assert fast.best_us <= fast.median_us
    assert fast.ratio_best > 1.5
    assert fast.samples >= QUICK.fewest


def test_the_thread_count_is_set_and_restored():
    seen = []
    before = torch.get_num_threads()
    measure(case(cpu=lambda: seen.append(torch.get_num_threads())), 1, QUICK)
    assert set(seen) == {1}
    assert torch.get_num_threads() == before


def test_as_many_calls_as_are_asked_for():
    calls = {"cpu": 0, "other": 0}

    def arm(name):
        calls[name] += 1

    effort = Effort(samples=3, calls=4, pause_seconds=1e-3)
    results = measure(case(None, cpu=lambda: arm("cpu"), other=lambda: arm("other")), 1, effort)
    assert [result.samples for result in results] == [3, 3]
    # One that is compared; of each sample one after the pause, and the four that are measured.
    assert calls == {"cpu": 1 + 3 * 5, "other": 1 + 3 * 5}


def test_two_processes_are_compared_with_one():
    def result(kind: str, arm: str, ratio: float) -> Result:
        return Result("distributed", f"{kind}, MLP, batch 64", 1, arm, "cpu", 1.0, 1.0, ratio, ratio, 5)

    results = [result(kind, "cpu", 1.0) for kind in ("alone", "DDP", "FSDP2")]
    results += [result("alone", "rustorch", 1.25), result("DDP", "rustorch", 1.0), result("FSDP2", "rustorch", 1.5)]
    # Nothing to compare with.
    results += [result("DDP", "rust_backend", 1.0)]
    assert list(distributed.beside_one_process(results)) == [
        "DDP, MLP, batch 64, rustorch: 0.80 of the ratio of one process, 0.80 by medians",
        "FSDP2, MLP, batch 64, rustorch: 1.20 of the ratio of one process, 1.20 by medians",
    ]


def test_an_arm_that_fails_or_differs_has_no_time():
    def failing():
        raise RuntimeError("no kernel\nmore")

    arms = {"cpu": lambda: torch.ones(3), "failing": failing, "differing": lambda: torch.zeros(3)}
    results = {result.arm: result for result in measure(case(**arms), 1, QUICK)}
    assert results["failing"].failure == "RuntimeError: no kernel"
    assert results["differing"].failure.startswith("Differs: differs from the peer by 1.0")
    assert results["cpu"].failure == ""
    assert results["failing"].samples == 0


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        (torch.ones(3), None),
        (torch.ones(3) + 1e-6, None),
        (torch.full((3,), float("nan")), "differs"),
        (torch.ones(4), "shape"),
        (torch.ones(3).double(), "float64"),
        (None, "NoneType"),
        ([torch.ones(3)], "gives"),
    ],
)
def test_results_are_compared(result, complaint):
    if complaint is None:
        compare(torch.ones(3), result, 1e-3)
        compare([torch.ones(3), torch.ones(2)], [result, torch.ones(2)], 1e-3)
    else:
        with pytest.raises(Differs, match=complaint):
            compare(torch.ones(3), result, 1e-3)
        with pytest.raises(Differs):
            compare([torch.ones(2), torch.ones(3)], [torch.ones(2), result], 1e-3)


def test_what_cannot_be_compared_is_no_agreement():
    with pytest.raises(Differs, match="not comparable"):
        compare(None, None, 1e-3)


def test_the_page_keeps_what_is_outside_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{render.BEGIN}\nold\n{render.END}\nafter\n")
    peer = Result("gemm", "mm 4", 1, "cpu", "cpu", 10.0, 11.0, 1.0, 1.0, 5)
    ours = Result("gemm", "mm 4", 1, "rustorch", "cpu", 5.0, 5.5, 2.0, 2.0, 5)
    broken = Result("gemm", "mm 5", 1, "rustorch", "cpu", *[float("nan")] * 4, 0, "RuntimeError: x")
    five = Result("gemm", "mm 5", 1, "cpu", "cpu", 20_000.0, 20_000.0, 1.0, 1.0, 5)
    render.write(page, render.section([peer, ours, five, broken], "make bench", "avx2"))
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| mm 4 | 1 | rustorch | 5.00 µs | 10.00 µs | 2.00 | 2.00 |" in text
    assert "| mm 5 | 1 | rustorch | RuntimeError: x | 20.0 ms | - | - |" in text
    assert f"torch {torch.__version__}" in text


def test_a_page_without_marks_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="lacks the lines"):
        render.write(page, "results")


def test_the_suite_is_drawn_and_nothing_else_is(tmp_path):
    def result(bench: str, mode: str, arm: str, ratio: float) -> Result:
        return Result(bench, f"mlp_1, {mode}", 1, arm, "cpu", 10.0, 11.0, ratio, ratio, 5)

    modes, arms = ("inference", "training"), ("cpu", "rustorch", "rust_backend")
    results = [result("suite", mode, arm, 1.5) for mode in modes for arm in arms]
    assert plot.speeds(results, "training", 1) == {"mlp_1": {"cpu": 1.5, "rustorch": 1.5, "rust_backend": 1.5}}
    plot.draw(results, tmp_path / "suite.svg")
    assert "</svg>" in (tmp_path / "suite.svg").read_text()
    with pytest.raises(ValueError, match="no results of the suite"):
        plot.draw([result("gemm", "inference", "cpu", 1.0)], tmp_path / "none.svg")


def test_the_benches_run(tmp_path):
    results = tmp_path / "results.json"
    assert run.main(["--quick", "--threads", "2", "--only", "overhead", "gemm", "conv", "--json", str(results)]) == 0
    cases = json.loads(results.read_text())
    assert {case["bench"] for case in cases} == {"overhead", "gemm", "conv"}
    assert {case["arm"] for case in cases} == {"cpu", "rustorch"}
    assert all(case["best_us"] > 0 for case in cases)


def test_the_compiler_benches_run(tmp_path, capsys):
    results = tmp_path / "results.json"
    assert run.main(["--quick", "--threads", "2", "--only", "compile", "suite", "--json", str(results)]) == 0
    cases = json.loads(results.read_text())
    assert {case["arm"] for case in cases} == {"cpu", "rustorch", "rust_backend", "rust_backend, CPU model"}
    assert not any(case["failure"] or case["fallbacks"] for case in cases)
    printed = capsys.readouterr().out
    for words in ("first call in a fresh process", "own", "geometric mean"):
        assert words in printed


def test_a_compiled_step_takes_no_more_memory_than_an_eager_one(capsys):
    memory.main(["--models", "mlp_64"])
    row = capsys.readouterr().out.splitlines()[-1]
    name, _lasts, eager, *compiled = (cell.strip() for cell in row.strip("|").split("|"))
    assert name == "mlp_64" and float(eager) > 0
    assert float(compiled[1]) <= 1.03 and float(compiled[3]) <= 1.03


def test_geometric_means_are_of_the_better_peer():
    def result(case: str, arm: str, best: float) -> Result:
        return Result("suite", case, 1, arm, "cpu", best, best, 1.0, 1.0, 5)

    results = [result("a", "cpu", 8.0), result("a", "inductor", 4.0), result("a", "rust_backend", 1.0)]
    results += [result("b", "cpu", 2.0), result("b", "inductor", 9.0), result("b", "rust_backend", 2.0)]
    (line,) = [line for line in run.geometric_means(results) if "rust_backend" in line]
    assert "geometric mean 2.00" in line and "2 cases" in line


def test_the_checkpoint_bench_runs(tmp_path, capsys):
    assert checkpoint.main(["--mib=1", "--samples=2", f"--folder={tmp_path}"]) == 0
    assert "| write 1 MiB and flush |" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def record(processor: str = "GenuineIntel-6-207-avx512", **ratios: float) -> records.Record:
    results = [Result("gemm", case, 1, "rustorch", "cpu", 1.0, 1.0, value, value, 9) for case, value in ratios.items()]
    return records.Record(processor, 2, "abc", "2026-12-01", torch.__version__, "3.11", results)


def test_records_are_kept_by_processor(tmp_path):
    path = record(mm=1.5).save(tmp_path)
    assert path == tmp_path / "GenuineIntel-6-207-avx512" / "2026-12-01.json"
    assert records.Record.load(path) == record(mm=1.5)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"is not a record of benches\.run --keep"):
        records.Record.load(path)


def test_a_processor_is_named_by_what_tells_generations_apart():
    text = "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\nprocessor : 1"
    assert records.processor(text).startswith("AuthenticAMD-25-17-")
    assert records.processor("").startswith("unknown-unknown-unknown-")


def test_rows_that_became_slower_are_named(tmp_path, capsys):
    old = record(same=1.0, slow=2.0, fast=1.0, noisy=1.0, lost=1.0).save(tmp_path / "old")
    new = record(same=1.0, slow=1.5, fast=1.2, noisy=0.98, new=1.0).save(tmp_path / "new")
    assert comparing.main([str(old), str(new)]) == 1
    printed = capsys.readouterr().out
    assert "slower: gemm: slow, rustorch, 1 threads: 0.75 times as fast" in printed
    assert "faster: gemm: fast" in printed and "lost: gemm: lost" in printed
    assert "noisy" not in printed and "same" not in printed
    assert comparing.main([str(old), str(old)]) == 0


def test_records_of_two_processors_are_not_compared(tmp_path, capsys):
    old, new = record(mm=1.0).save(tmp_path / "old"), record("AuthenticAMD-25-17-avx2", mm=1.0).save(tmp_path / "new")
    with pytest.raises(SystemExit):
        comparing.main([str(old), str(new)])
    assert "the records are of two processors" in capsys.readouterr().err
