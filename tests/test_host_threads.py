"""Compiled models on the CPU run on PyTorch's own OpenMP workers: the same results, whatever the threads do."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import nn

# Of models that are compiled in a process of their own; enough work for more than one thread.
MODEL = """
import os, signal
import torch, torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(2)
model = nn.Sequential(nn.Linear(64, 512), nn.Tanh(), nn.Linear(512, 512))
inputs = torch.randn(256, 64)
compiled = torch.compile(model, backend="rust_backend")
expected = compiled(inputs)
(inputs @ inputs.T).exp().sum()  # PyTorch's own threads have run.
"""


def made() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 512), nn.Tanh(), nn.Linear(512, 512), nn.GELU(), nn.Linear(512, 10))


def trained(counts: list[int]) -> list[torch.Tensor]:
    """The parameters after a step with each count of threads."""
    model = made()
    inputs, labels = torch.randn(256, 64), torch.randint(10, (256,))
    compiled = torch.compile(model, backend="rust_backend")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = torch.get_num_threads()
    try:
        for count in counts:
            torch.set_num_threads(count)
            optimizer.zero_grad()
            F.cross_entropy(compiled(inputs), labels).backward()
            optimizer.step()
    finally:
        torch.set_num_threads(before)
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("counts", [[2, 2, 2], [1, 4, 2], [4, 1, 4]], ids=str)
def test_results_do_not_depend_on_the_threads(counts):
    for mine, alone in zip(trained(counts), trained([1, 1, 1]), strict=True):
        assert torch.equal(mine, alone)


def test_several_threads_at_once():
    model = made()
    compiled = torch.compile(model, backend="rust_backend")
    inputs = [torch.randn(256, 64) for _ in range(4)]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.no_grad():
            expected = [compiled(each) for each in inputs]
            together = threading.Barrier(4)

            def run(index: int) -> bool:
                together.wait()
                with torch.no_grad():
                    return all(torch.equal(compiled(inputs[index]), expected[index]) for _ in range(50))

            with ThreadPoolExecutor(4) as pool:
                assert list(pool.map(run, range(4))) == [True] * 4
    finally:
        torch.set_num_threads(before)


def test_denormals_are_flushed_where_the_caller_flushes_them():
    tiny = torch.full((1 << 20,), 1e-39)
    compiled = torch.compile(lambda x: x * 0.5 + x * 0.25, backend="rust_backend")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert (compiled(tiny) != 0).all()
        torch.set_flush_denormal(True)
        flushed = compiled(tiny)
        torch.set_flush_denormal(False)
        assert (flushed == 0).all()
        # The workers are PyTorch's: they are left as they were.
        assert (tiny * 0.5 != 0).all()
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


def test_a_forked_child_computes(python):
    program = """
child = os.fork()
if child == 0:
    signal.alarm(60)
    # PyTorch's own kernels hang here on as many elements.
    well = compiled(inputs)[::7].tolist() == expected[::7].tolist()
    os._exit(0 if well else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    done = python(MODEL + program)
    assert done.returncode == 0, done.stderr


def test_where_no_thread_can_start_the_caller_computes(python):
    program = """
import resource, threading
limited = threading.Event()
results = []

def run():
    # Each thread that launches has a team of its own, and this one's cannot start.
    limited.wait()
    results.append(compiled(inputs))

thread = threading.Thread(target=run)
thread.start()
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (size + (6 << 20), hard))
limited.set()
thread.join()
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
assert torch.equal(results[0], expected)
"""
    done = python(MODEL + program)
    assert done.returncode == 0, done.stderr
