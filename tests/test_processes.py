"""Forked children and threads compute like the process that made them."""

import multiprocessing
import os
import threading

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def step(model):
    model.zero_grad()
    loss = model(torch.ones(4, 3, device="rustorch")).square().mean()
    loss.backward()
    return [parameter.grad.cpu().tolist() for parameter in model.parameters()]


def in_child(work):
    """Runs `work` in a forked child; gives what it returned."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)

    def run():
        try:
            send.send(work())
        except BaseException as error:
            send.send(repr(error))
        os._exit(0)

    child = context.Process(target=run)
    child.start()
    assert receive.poll(60), "the child gave no answer"
    answer = receive.recv()
    child.join()
    return answer


def test_backward_in_a_forked_child():
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)).to("rustorch")
    expected = step(model)
    assert in_child(lambda: step(model)) == expected
    assert in_child(lambda: in_child(lambda: step(model))) == expected
    assert step(model) == expected


def test_large_work_in_a_forked_child():
    # PyTorch's own CPU kernels may hang in a child on as many elements, so it only reads some.
    tensor = torch.arange(2_000_000.0).to("rustorch")
    expected = (tensor + tensor).cpu()[::100_000].tolist()
    assert in_child(lambda: (tensor + tensor).cpu()[::100_000].tolist()) == expected


def test_backward_runs_on_the_calling_thread():
    threads = []
    tensor = torch.ones(3, device="rustorch", requires_grad=True)
    tensor.register_hook(lambda gradient: threads.append(threading.get_ident()))
    (tensor + tensor).backward(torch.ones(3, device="rustorch"))
    assert threads == [threading.get_ident()]


def test_backward_on_a_thread_that_did_nothing_else():
    tensor = torch.ones(3, device="rustorch", requires_grad=True)
    doubled = tensor + tensor
    gradient = torch.ones(3, device="rustorch")
    results = []

    def run():
        results.append(torch.autograd.grad([doubled, tensor + 1], tensor, [gradient, gradient])[0].tolist())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert results == [[3, 3, 3]]


def test_backward_with_multithreading_asked_for():
    with torch.autograd.set_multithreading_enabled(True):
        tensor = torch.ones(3, device="rustorch", requires_grad=True)
        (tensor + tensor).backward(torch.ones(3, device="rustorch"))
    assert tensor.grad.tolist() == [2, 2, 2]


@pytest.mark.parametrize("pin_memory", [False, True])
def test_training_from_a_loader_with_workers(pin_memory):
    torch.manual_seed(0)
    inputs = torch.randn(64, 3)
    data = TensorDataset(inputs, inputs @ torch.tensor([[1.0], [-2.0], [0.5]]))
    model = nn.Linear(3, 1).to("rustorch")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        loader = DataLoader(
            data, batch_size=8, shuffle=True, num_workers=2, pin_memory=pin_memory, multiprocessing_context="fork"
        )
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x.to("rustorch")), y.to("rustorch"))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
