"""The harness measures, compares and renders; the benches run."""

import json
import math
import sys
import time
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from benches import (
    checkpoint,
    conv,
    distributed,
    gemm,
    memory,
    models,
    peers,
    plot,
    records,
    render,
    roofline,
    run,
    suite,
)
from benches import compare as comparing
from benches.harness import QUICK, Case, Differs, Effort, Result, both, both_ways, compare, made, measure
from rustorch_device.profiler import Roofline


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
    ours = Result("gemm", "mm 4", 1, "rustorch", "cpu", 5.0, 5.5, 2.0, 2.0, 5, share=0.5)
    broken = Result("gemm", "mm 5", 1, "rustorch", "cpu", *[float("nan")] * 4, 0, "RuntimeError: x")
    five = Result("gemm", "mm 5", 1, "cpu", "cpu", 20_000.0, 20_000.0, 1.0, 1.0, 5)
    kept = replace(record(), results=[peer, ours, five, broken], roofs={"1": {"flops": 1e11, "bytes": 1e10}})
    kept.save(tmp_path / "results")
    # An older one of the same processor, and one of another.
    replace(record(old=1.0), date="2026-11-30").save(tmp_path / "results")
    replace(record("AuthenticAMD-25-17-avx512", mm=1.5)).save(tmp_path / "results")
    render.write(page, tmp_path / "results")
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n")
    assert "old" not in text
    assert text.index("### AuthenticAMD-25-17-avx512") < text.index("### GenuineIntel-6-207-avx512")
    assert "| gemm | 1 | 1 | 2.00 | 2.00: mm 4 | 50% |" in text
    assert "1 thread 100 GFLOP/s and 10.0 GB/s" in text and f"torch {torch.__version__}" in text
    details = (tmp_path / "page" / "GenuineIntel-6-207-avx512.md").read_text()
    assert "| mm 4 | 1 | 10.00 µs | 5.00 µs | 2.00 | 2.00 | 2.00 | 50% |" in details
    assert "| mm 5 | 1 | 20.0 ms | RuntimeError: x | - | - | - | - |" in details


def test_a_model_is_shown_beside_its_best_peer():
    def result(arm: str, best: float, **more) -> Result:
        return Result("suite", "mlp, inference", 2, arm, "cpu", best, best, 8.0 / best, 8.0 / best, 5, **more)

    results = [
        result("cpu", 8.0),
        result("onnxruntime", 4.0),
        result("rustorch", 6.0),
        result("rust_backend", 5.0, share=0.25),
    ]
    results.append(Result.failed(Case("suite", "mlp, inference", {}), 2, "openvino", "ModuleNotFoundError: openvino"))
    *_, row = render.models(results)
    assert row == "| mlp, inference | 5.00 µs compiled | 4.00 µs onnxruntime | 0.80 | 25% |"
    *_, row = render.table(results, "suite")
    assert "ModuleNotFoundError: openvino | 1.60 | 1.60 | 0.80 | 25% |" in row


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


def test_a_case_says_what_it_computes_and_moves():
    product, *_ = gemm.cases(quick=True)
    assert (product.flops, product.bytes) == (2 * 16**3, 3 * 4 * 16**2)
    first, *_ = conv.cases(quick=True)
    # 32 channels of 26 x 26 from 9 weights each, 64 times.
    assert first.flops == 2 * 64 * 32 * 26**2 * 9
    assert both("bench", "add", torch.add, torch.ones(8), torch.ones(8)).bytes == 3 * 8 * 4
    forward, backward = both_ways("bench", "linear", F.linear, torch.randn(4, 3), torch.randn(2, 3), flops=48)
    assert (forward.flops, backward.flops) == (48, 96)
    assert not any(result.failure or result.fallbacks for result in measure(backward, 1, QUICK))


def test_a_share_is_of_what_binds():
    def share(flops: float, moved: float) -> float | None:
        result = Result("gemm", "mm", 1, "rustorch", "cpu", 2e6, 2e6, 1.0, 1.0, 5, flops=flops, bytes=moved)
        return roofline.with_share(result, {1: Roofline(100.0, 10.0)}).share

    assert (share(100.0, 1.0), share(100.0, 15.0), share(0.0, 0.0)) == (0.5, 0.75, None)


def test_the_roof_is_the_higher_of_two_measurements():
    high = roofline.higher({1: Roofline(100.0, 10.0)}, {1: Roofline(90.0, 12.0)})
    assert high == {1: Roofline(100.0, 12.0)}
    measured = roofline.measured([1])
    assert list(measured) == [1] and measured[1].flops > 1e8 and measured[1].bytes > 1e7


def test_every_model_of_the_table_is_measured():
    inference = {name for name, model in models.MODELS.items() if models.INFERENCE in model.modes}
    training = {name for name, model in models.MODELS.items() if models.TRAINING in model.modes}
    others = {"mlp_small_1", "mlp_small_256", "resnet50", "mobilenet_v3_large", "efficientnet_b0", "convnext_tiny"}
    assert inference - training == others | {"bert_1x128", "bert_8x64"}
    assert training - inference == {"mlp_rl"}
    assert set(models.SUITE) == inference & training


def test_the_flops_of_a_model_are_those_of_its_products():
    layers = 2 * 64 * (784 * 512 + 512 * 512 + 512 * 10)
    model = models.MODELS["mlp_64"].make()
    assert suite.flops(model, models.INFERENCE) == layers
    # The input needs no gradient.
    assert suite.flops(model, models.TRAINING) == 3 * layers - 2 * 64 * 784 * 512
    lstm = models.MODELS["lstm"].make()
    gates = 2 * 16 * 64 * 4 * 128 * (32 + 128 + 128 + 128)
    assert suite.flops(lstm, models.INFERENCE) == gates + 2 * 16 * 128 * 10


def test_a_peer_that_is_not_there_is_a_result(monkeypatch, tmp_path):
    for package in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)
    exported = peers.Exported(torch.nn.Linear(2, 2), (torch.ones(1, 2),), tmp_path)
    wanted = {name: lambda name=name: getattr(peers, name)(exported, 1) for name in ("onnxruntime", "openvino")}
    arms, failures = made({"cpu": lambda: lambda: torch.ones(1), **wanted})
    peer, *others = measure(Case("suite", "linear, inference", arms, failures=failures), 1, QUICK)
    assert (peer.arm, peer.failure) == ("cpu", "")
    assert [result.arm for result in others] == ["onnxruntime", "openvino"]
    assert all(result.failure.startswith("ModuleNotFoundError") for result in others)


def test_a_process_that_ends_early_is_a_result(monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    (result,) = suite.process("mlp_1", "inference", [1], "few", quick=True, samples=1)
    assert (result.case, result.arm, result.failure) == ("mlp_1, inference", "process", "ended with 1: ")


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
    assert "geometric mean 2.00 of the best peer, 2 cases" in line


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


def test_a_day_is_kept_in_one_file(tmp_path):
    first, later = record(mm=1.5, bmm=1.0), record(mm=2.0)
    first.save(tmp_path)
    merged = records.Record.load(later.save(tmp_path))
    assert {(result.case, result.ratio_best) for result in merged.results} == {("mm", 2.0), ("bmm", 1.0)}
    other = records.Record.load(replace(later, commit="def").save(tmp_path))
    assert [result.case for result in other.results] == ["mm"]


def test_a_record_keeps_what_failed_and_the_roof(tmp_path):
    failed = Result.failed(Case("suite", "mlp", {}), 2, "openvino", "ModuleNotFoundError")
    kept = records.Record.of([failed], {2: Roofline(100.0, 10.0)})
    loaded = records.Record.load(kept.save(tmp_path))
    assert loaded.roofs == {"2": {"flops": 100.0, "bytes": 10.0}}
    assert loaded.results[0].failure == "ModuleNotFoundError" and math.isnan(loaded.results[0].best_us)
    assert (loaded.processor, loaded.called) == (kept.processor, kept.called)


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


def test_what_others_lose_is_no_regression(tmp_path):
    def of(ratio: float) -> records.Record:
        peer = Result("suite", "mlp, inference", 1, "onnxruntime", "cpu", 1.0, 1.0, ratio, ratio, 9)
        return replace(record(), results=[peer])

    assert comparing.main([str(of(2.0).save(tmp_path / "old")), str(of(1.0).save(tmp_path / "new"))]) == 0


def test_records_of_two_processors_are_not_compared(tmp_path, capsys):
    old, new = record(mm=1.0).save(tmp_path / "old"), record("AuthenticAMD-25-17-avx2", mm=1.0).save(tmp_path / "new")
    with pytest.raises(SystemExit):
        comparing.main([str(old), str(new)])
    assert "the records are of two processors" in capsys.readouterr().err
