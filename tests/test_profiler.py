"""Profiles: Rust's kernels in PyTorch's profiler, and our own table."""

import json
import os
import re
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn
from torch.autograd.profiler_util import EventList
from torch.profiler import ProfilerActivity

import rustorch_device
from rustorch_device import _C, profiler

BOTH = [ProfilerActivity.CPU, ProfilerActivity.PrivateUse1]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(7, 5)
        self.second = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x)
        hidden = (hidden * 2 + 1).tanh()
        return self.second(hidden)


def on_device(events):
    return [event for event in events if event.device_type == torch.autograd.DeviceType.PrivateUse1]


def kernels(events, name):
    return [event for event in on_device(events) if getattr(event, "name", getattr(event, "key", "")) == name]


def rand(*sizes):
    return torch.randn(sizes).to("rustorch")


def test_a_kernel_is_an_event_of_the_device_under_the_op_that_launched_it():
    a, b = rand(6, 7), rand(7, 5)
    with torch.profiler.profile(activities=BOTH, record_shapes=True, with_flops=True) as taken:
        torch.mm(a, b)
    (kernel,) = kernels(taken.events(), "rustorch::matmul")
    assert kernel.flops == 2 * 6 * 7 * 5
    assert kernel.bytes == 4 * (6 * 7 + 7 * 5 + 6 * 5)
    assert kernel.input_shapes == [[6, 7], [7, 5]]
    assert kernel.time_range.elapsed_us() > 0
    (op,) = (event for event in taken.events() if event.name == "aten::mm")
    assert op.device_time_total == pytest.approx(kernel.time_range.elapsed_us())
    assert op.flops == kernel.flops


def test_averages_sum_time_operations_and_bytes():
    a = rand(6, 7)
    with torch.profiler.profile(activities=BOTH, record_shapes=True, with_flops=True) as taken:
        for _ in range(3):
            a.exp()
        a[:2].exp()
    averages = kernels(taken.key_averages(), "rustorch::exp")
    (average,) = averages
    assert average.count == 4
    assert (average.flops, average.bytes) == (3 * 42 + 14, 8 * (3 * 42 + 14))
    assert average.self_device_time_total > 0
    assert "rustorch::exp" in taken.key_averages().table()
    by_shape = kernels(taken.key_averages(group_by_input_shape=True), "rustorch::exp")
    assert sorted((average.count, average.flops) for average in by_shape) == [(1, 14), (3, 3 * 42)]
    assert len({str(average.input_shapes) for average in by_shape}) == 2


def test_shapes_are_shown_where_they_are_asked_for():
    a = rand(6, 7)
    with torch.profiler.profile(activities=BOTH) as taken:
        a.exp()
    (kernel,) = kernels(taken.events(), "rustorch::exp")
    assert kernel.input_shapes == [] and kernel.flops == 42


def test_kernels_alone_add_up_to_the_whole():
    """An op's row has its kernels' time, and theirs have it as well, as on every device of PyTorch's."""
    a, b = rand(64, 32), rand(32, 48)
    with torch.profiler.profile(activities=BOTH) as taken:
        torch.mm(a, b).relu_()
    averages = taken.key_averages()
    whole = sum(event.time_range.elapsed_us() for event in on_device(taken.events()))
    assert sum(row.self_device_time_total for row in averages) == pytest.approx(2 * whole)
    rows = EventList(on_device(averages), use_device="rustorch")
    assert sum(row.self_device_time_total for row in rows) == pytest.approx(whole)
    shares = [float(share) for share in re.findall(r"([\d.]+)%", rows.table(sort_by="self_device_time_total"))]
    assert len(rows) == 2 and sum(shares) == pytest.approx(100, abs=0.05)


def test_backward_is_there_too():
    model = Net().to("rustorch")
    with torch.profiler.profile(activities=BOTH) as taken:
        model(rand(4, 7)).sum().backward()
    names = {event.name for event in on_device(taken.events())}
    assert {"rustorch::addmm", "rustorch::tanh", "rustorch::tanh_backward", "rustorch::matmul"} <= names


@pytest.mark.parametrize("device", ["rustorch", "cpu"])
def test_a_compiled_model_is_its_fused_kernels_with_the_users_lines(device, tmp_path):
    model, x = Net().to(device), torch.randn(4, 7).to(device)
    compiled = torch.compile(model, backend="rust_backend")
    compiled(x).sum().backward()
    with torch.profiler.profile(activities=BOTH) as taken:
        compiled(x)
    (kernel,) = kernels(taken.events(), "rustorch::fused[addmm+mul+add+tanh]")
    assert kernel.flops == 2 * 4 * 5 * 7 + 3 * 4 * 5
    line = Net.forward.__code__.co_firstlineno + 2
    assert f'test_profiler.py", line {line}, in forward' in kernel.metadata["source"]
    assert "hidden = (hidden * 2 + 1).tanh()" in kernel.metadata["source"]
    # The call of the program has its kernels' time.
    (program,) = (event for event in taken.events() if event.name == "rustorch::program")
    whole = sum(event.time_range.elapsed_us() for event in on_device(taken.events()))
    assert program.device_time_total == pytest.approx(whole)
    with rustorch_device.profile(show=False) as table:
        compiled(x)
    (fused,) = (kernel for kernel in table.kernels if kernel.name == "fused[addmm+mul+add+tanh]")
    assert fused.origin == f"test_profiler.py:{line - 1}, test_profiler.py:{line}"


def test_a_kernel_without_a_line_says_its_nodes():
    source = "relu (aten.relu.default); mul_1 (aten.mul.Tensor)"
    assert profiler.Kernel("", source, 1, 1.0, 0, 0).origin == "relu, mul_1"
    assert profiler.Kernel("", "", 1, 1.0, 0, 0).origin == ""


def test_the_trace_has_a_lane_of_kernels_that_perfetto_reads(tmp_path):
    with torch.profiler.profile(activities=BOTH, record_shapes=True) as taken:
        torch.mm(rand(6, 7), rand(7, 5))
    taken.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    (kernel,) = (event for event in events if event["name"] == "rustorch::matmul" and event["cat"] == "kernel")
    # A complete event of the trace format: a phase, a start and a duration in microseconds, a lane.
    assert kernel["ph"] == "X" and kernel["dur"] > 0
    args = kernel["args"]
    assert args["Input Dims"] == [[6, 7], [7, 5]] and args["Output Dims"] == [[6, 5]]
    assert args["Input type"] == ["float32", "float32"]
    assert (args["flops"], args["bytes"]) == (2 * 6 * 7 * 5, 4 * (42 + 35 + 30))
    assert args["GFLOP/s"] == pytest.approx(args["flops"] / (kernel["dur"] * 1e3), rel=0.02)
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert names[kernel["pid"]] == "Rust kernels"
    (op,) = (event for event in events if event["name"] == "rustorch::matmul" and event["cat"] == "cpu_op")
    assert op["args"]["External id"] == args["External id"]
    slack = 50
    assert op["ts"] - slack <= kernel["ts"] <= op["ts"] + op["dur"] + slack


def test_a_profile_of_the_cpu_alone_has_no_kernels_and_leaves_none():
    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as taken:
        rand(3).exp()
    assert on_device(taken.events()) == []
    with torch.profiler.profile(activities=BOTH) as taken:
        rand(3).tanh()
    assert kernels(taken.events(), "rustorch::exp") == []
    assert len(kernels(taken.events(), "rustorch::tanh")) == 1


def test_a_schedule_keeps_its_active_steps():
    cycles = []
    schedule = torch.profiler.schedule(wait=1, warmup=1, active=2, repeat=2)
    ready = lambda taken: cycles.append(len(kernels(taken.events(), "rustorch::exp")))  # noqa: E731
    with torch.profiler.profile(activities=BOTH, schedule=schedule, on_trace_ready=ready) as taken:
        for _ in range(8):
            rand(3).exp()
            taken.step()
    assert cycles == [2, 2]


def test_the_table_has_each_kernels_figures():
    a, b = rand(64, 32), rand(32, 48)
    with rustorch_device.profile(show=False) as taken:
        for _ in range(3):
            torch.mm(a, b).relu_()
    kernels = {kernel.name: kernel for kernel in taken.kernels}
    product = kernels["matmul"]
    assert (product.calls, product.flops) == (3, 3 * 2 * 64 * 32 * 48)
    assert product.bytes == 3 * 4 * (64 * 32 + 32 * 48 + 64 * 48)
    assert kernels["relu"].flops == 3 * 64 * 48
    assert [kernel.seconds for kernel in taken.kernels] == sorted((k.seconds for k in taken.kernels), reverse=True)
    assert sum(kernel.seconds for kernel in taken.kernels) < taken.seconds
    rows = {line.split()[0]: line.split() for line in str(taken).splitlines()}
    head = ["kernel", "calls", "total", "ms", "mean", "µs", "share", "GFLOP/s", "GB/s", "roof", "from"]
    assert rows["kernel"] == head
    assert rows["matmul"][1] == "3"
    assert float(rows["matmul"][5]) == pytest.approx(product.flops / product.seconds / 1e9, abs=0.06)
    assert float(rows["matmul"][6]) == pytest.approx(product.bytes / product.seconds / 1e9, abs=0.06)


def test_the_share_of_the_roofline_is_of_what_binds():
    roofline = profiler.Roofline(flops=100.0, bytes=10.0)
    computes = profiler.Kernel("", "", 1, seconds=2.0, bytes=5, flops=100)
    assert computes.roof(roofline) == 0.5
    moves = profiler.Kernel("", "", 1, seconds=2.0, bytes=15, flops=100)
    assert moves.roof(roofline) == 0.75


def test_a_table_is_printed_unless_it_is_not_wanted(capsys):
    a = rand(3)
    with rustorch_device.profile(limit=1):
        a.exp()
        a.tanh()
    text = capsys.readouterr().out
    assert len(text.splitlines()) == 4 and "and 1 more" in text
    with rustorch_device.profile(show=False):
        a.exp()
    with rustorch_device.profile():
        pass
    assert capsys.readouterr().out == "no Rust kernel ran\n"


def test_a_block_that_raises_ends_its_profile(capsys):
    with pytest.raises(RuntimeError, match="of the block"), rustorch_device.profile() as taken:
        rand(3).exp()
        raise RuntimeError("of the block")
    assert [kernel.name for kernel in taken.kernels if kernel.name == "exp"] == ["exp"]
    assert capsys.readouterr().out == ""
    before = _C.profile_totals()
    rand(3).exp()
    assert sorted(_C.profile_totals()) == sorted(before)


def test_profiles_nest_and_see_every_thread():
    a = rand(3)

    def work() -> None:
        for _ in range(5):
            a.exp()

    with rustorch_device.profile(show=False) as outer:
        a.exp()
        with rustorch_device.profile(show=False) as inner:
            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    calls = [next(kernel.calls for kernel in taken.kernels if kernel.name == "exp") for taken in (outer, inner)]
    assert calls == [16, 15]


@pytest.mark.parametrize(("value", "is_on"), [("1", True), ("0", False), ("", False)])
def test_the_switch_of_the_environment(value, is_on):
    script = "import torch; torch.ones(4, 4, device='rustorch') @ torch.ones(4, 4, device='rustorch')"
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"RUSTORCH_PROFILE": value}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert ("matmul" in done.stderr and "GFLOP/s" in done.stderr) == is_on
    assert done.stdout == ""
