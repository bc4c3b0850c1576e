"""`explain`, its drawings, the logs, and what an error says."""

import re
import shutil

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import rustorch_device


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 32), nn.GELU(), nn.Linear(32, 32), nn.Sigmoid(), nn.LayerNorm(32))


def test_a_models_whole_account():
    report = rustorch_device.explain(lambda x: (x.sigmoid() * 2 + 1).relu() * x, torch.randn(1000))
    assert [graph.name for graph in report.graphs] == ["inference"]
    assert report.coverage == 1.0 and not report.not_native
    assert len(report.fused) == 1 and "sigmoid" in report.fused[0]
    # One read of x and one write of the result; before, each of five launches read and wrote.
    assert report.moved_bytes == 2 * 4000
    assert report.saved_bytes > 5 * 4000
    assert report.peak_bytes >= 4000
    assert set(report.seconds) == {"dynamo and autograd", "capture", "passes", "first run"}
    assert all(seconds > 0 for seconds in report.seconds.values())
    for word in ("100%", "fused[", "passes", "saved", "no graph breaks"):
        assert word in str(report)


def test_forward_and_backward_are_told_apart():
    report = rustorch_device.explain(model(), torch.randn(4, 6))
    assert [graph.name for graph in report.graphs] == ["forward", "backward"]
    assert report.coverage == 1.0
    for graph in report.graphs:
        assert all(seconds > 0 for seconds in graph.seconds.values())


def test_the_drawing_names_every_kernel():
    report = rustorch_device.explain(model(), torch.randn(4, 6))
    dot = report.to_dot()
    assert dot.startswith("digraph rustorch {") and dot.count("{") == dot.count("}")
    assert dot.count("subgraph cluster_") == 2
    kernels = [kernel for graph in report.graphs for program in graph.programs for kernel in program.kernels]
    assert len(re.findall(r"^  g\dp\di\d+ \[label", dot, re.MULTILINE)) == len(kernels)
    nodes = set(re.findall(r"^  (g\dp\d[bi]\d+) \[label", dot, re.MULTILINE))
    edges = re.findall(r"(g\dp\d[bi]\d+) -> (g\dp\d[bi]\d+)", dot)
    assert edges and all(node in nodes for edge in edges for node in edge), "an arrow joins nodes that are drawn"


def test_show_draws_with_graphviz_or_says_that_it_is_missing(tmp_path, monkeypatch):
    report = rustorch_device.explain(torch.relu, torch.randn(4))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="Graphviz"):
        report.show()
    # A stand-in for `dot`: it keeps what it is given.
    dot = tmp_path / "dot"
    dot.write_text(f'#!{shutil.which("sh", path="/bin:/usr/bin")}\nexec /bin/cat > "$3"\n')
    dot.chmod(0o755)
    assert report.show(tmp_path / "drawing.svg").read_text() == report.to_dot()
    assert report.show().read_text() == report.to_dot()


LOGGED = """
import torch
f = torch.compile(lambda x: (x.relu() + 1) * 2, backend="rust_backend")
f(torch.randn(5))
"""


def test_torch_logs(python):
    done = python(LOGGED, TORCH_LOGS="rustorch")
    assert done.returncode == 0, done.stderr
    assert "3 launches became 1 kernels" in done.stderr and "inference imported: capture" in done.stderr
    assert "as captured" not in done.stderr
    done = python(LOGGED, TORCH_LOGS="+rustorch")
    assert "as captured" in done.stderr and "after the passes" in done.stderr and "fused[" in done.stderr
    assert "became" not in python(LOGGED).stderr


@pytest.mark.parametrize("device", ["cpu", "rustorch"])
def test_an_error_in_a_program_names_the_users_line(device):
    def function(table, index):
        return F.embedding(index, table) * 2  # this very line

    torch._dynamo.reset()
    compiled = torch.compile(function, backend="rust_backend")
    table = torch.randn(3, 2).to(device)
    compiled(table, torch.tensor([2]).to(device))
    with pytest.raises(IndexError, match=r"(?s)compiled from .*embedding.*test_explain.py.*this very line"):
        compiled(table, torch.tensor([5]).to(device))


def test_an_error_outside_of_a_program_names_the_users_line(allow_fallback):
    def function(x):
        return torch.linalg.cholesky(x)  # that very line

    torch._dynamo.reset()
    compiled = torch.compile(function, backend="rust_backend")
    with pytest.raises(torch.linalg.LinAlgError) as raised:
        compiled(-torch.eye(3, device="rustorch"))
    assert any("that very line" in note for note in raised.value.__notes__)


def called(x: torch.Tensor) -> torch.Tensor:
    print("seen")  # a call that ends a graph
    return x + 1


def test_a_graph_break_is_the_users_line_and_a_sentence(capsys):
    def function(x):
        x = called(x.relu())
        if x.sum() > 0:  # a branch that ends a graph
            x = x * 2
        return x

    report = rustorch_device.explain(function, torch.ones(4))
    printing, branching = report.graph_breaks
    assert (printing.file, printing.function) == (__file__, "called")
    assert printing.line == called.__code__.co_firstlineno + 1 and "a call that ends a graph" in printing.code
    assert "does not know how to trace builtin operator `print`" in printing.reason and "`print`" in printing.hint
    assert (branching.file, branching.function) == (__file__, "function")
    assert branching.line == function.__code__.co_firstlineno + 2
    assert branching.reason == "a branch depends on a tensor's values"
    assert not any(met.is_skipped for met in report.graph_breaks)
    text = str(report)
    assert f'File "{__file__}", line {printing.line}, in called: print("seen")' in text
    assert "graph break x1: a branch depends on a tensor's values" in text and "no graph breaks" not in text


def test_a_function_that_is_not_compiled_at_all_is_told(capsys):
    def function(x):
        for step in range(3):
            x = x + 1
            print(step)
        return x

    report = rustorch_device.explain(function, torch.ones(4))
    (given_up,) = report.graph_breaks
    assert given_up.is_skipped and given_up.function == "function"
    assert given_up.line == function.__code__.co_firstlineno + 3 and given_up.code == "print(step)"
    assert "function runs in eager mode from here on" in str(report)


def test_a_node_outside_of_the_programs_has_its_line_and_a_sentence(allow_fallback):
    report = rustorch_device.explain(lambda x: torch.special.bessel_j0(x) + 1, torch.ones(4, device="rustorch"))
    (node,) = report.not_native
    assert node.reason == (
        "rustorch has no Rust kernel for aten::special_bessel_j0: PyTorch's CPU kernel runs between two programs"
    )
    assert "test_explain.py" in node.place and "torch.special.bessel_j0(x)" in node.place
    assert node.reason in str(report) and node.place in str(report)


def test_small_sizes_are_shown():
    assert "moved: 32 bytes;" in str(rustorch_device.explain(torch.relu, torch.ones(4)))
    assert "moved: 8.00 KiB;" in str(rustorch_device.explain(torch.relu, torch.ones(1024)))
    assert "moved: 8.00 MiB;" in str(rustorch_device.explain(torch.relu, torch.ones(1024, 1024)))
