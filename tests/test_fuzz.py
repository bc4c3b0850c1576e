"""The fuzzer of the compiler: some of its programs, and that it finds, makes small and prints what it looks for.

`PYTHONPATH=tests python -m fuzz.run` runs as many as one likes.
"""

import operator
import sys

import pytest
from fuzz.arms import ARMS, Arm
from fuzz.batches import run_batch
from fuzz.programs import Program
from fuzz.script import as_script
from fuzz.search import search

pytestmark = [pytest.mark.usefixtures("fresh_dynamo"), pytest.mark.allow_fallback]


def test_random_programs_do_what_cpu_eager_does():
    summary = search(16, seed=0, most_steps=4)
    failure = summary.failure
    assert failure is None, f"{failure}\n\n{as_script(failure.program, failure.arm, failure.found)}"
    assert summary.programs == 16


def adding_where_it_should_multiply(graph, _examples):
    """A compiler with a fault."""
    for node in graph.graph.nodes:
        if node.target is operator.mul:
            node.target = operator.add
    graph.recompile()
    return graph.forward


def test_a_fault_is_found_and_its_program_made_small():
    arm = Arm("cpu", adding_where_it_should_multiply)
    failure = search(200, seed=0, arms=[arm], most_steps=6).failure
    assert failure is not None and failure.arm is arm
    assert len(failure.program.lines) == 1 and len(failure.program.names) == 1
    assert failure.program.source() in as_script(failure.program, arm, failure.found)
    # Either call's numbers differ, and the text says which result's.
    assert "call 1, result v1: " in failure.found


def program(*lines: str, **settings) -> Program:
    given = {
        "inputs": ("a = numbers(seed, (3, 4), torch.float32, special=(nan, inf)).to(device).t().requires_grad_()",),
        "names": ("a",),
        "lines": lines,
        "results": (lines[-1].split()[0],),
        "exact": frozenset(),
        "coarsest": "float32",
        "largest": 4.0,
        "dynamic": False,
        "captures_values": False,
        "late_backward": False,
    }
    return Program(**{**given, **settings})


def test_a_printed_program_runs_by_itself(python):
    agreeing = program(
        "v1 = torch.ops.fuzz.through_numpy(a).relu()", "v2 = torch.ops.fuzz.of_run(v1)", late_backward=True
    )
    ran = python(as_script(agreeing, Arm("rustorch", "rust_backend")))
    assert (ran.returncode, ran.stdout) == (0, "they agree\n"), ran.stderr


def test_a_printed_program_tells_what_differs(capsys):
    differing = program("v1 = a * (2 if a.device.type == 'cpu' else 3)")
    with pytest.raises(SystemExit) as ended:
        exec(as_script(differing, ARMS[0]), {})
    assert ended.value.code is True
    assert "call 3, gradient of a\n  eager on rustorch: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("end", "message"),
    [("os.abort()", "signal 6"), ("time.sleep(60)", "it did not end in 1 s"), ("exit(3)", "it ended with 3")],
)
def test_a_process_that_dies_is_told_with_its_last_program(end, message):
    child = f"import os, sys, time; open(sys.argv[1] + '/program.py', 'w').write('def program'); {end}"
    result = run_batch([sys.executable, "-c", child], timeout=1)
    assert message in result.failure and result.failure.endswith("its last program:\n\ndef program")
