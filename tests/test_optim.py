"""Fused optimizer steps against the CPU's, over twenty steps; gradient scaling."""

import pytest
import torch
from compared import DEVICE, numbers, on_device

ADAM = [
    {},
    {"weight_decay": 0.1},
    {"amsgrad": True, "weight_decay": 0.01},
    {"maximize": True, "betas": (0.4, 0.9)},
    {"lr": torch.tensor(0.01)},
]
CASES = [
    *[(torch.optim.Adam, options) for options in ADAM],
    *[(torch.optim.AdamW, options) for options in ADAM],
    (torch.optim.SGD, {"lr": 0.1}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "maximize": True}),
    (torch.optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.01}),
]


def parameters(dtype: torch.dtype) -> list[torch.Tensor]:
    shapes = [(7,), (40, 50), (3, 4, 5), (0,), ()]
    made = [numbers(*shape, dtype=dtype, seed=seed) for seed, shape in enumerate(shapes)]
    return [*made, numbers(6, 8, dtype=dtype).t().contiguous().t()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("optimizer", "options"), CASES)
def test_twenty_steps(optimizer, options, dtype):
    theirs = [parameter.requires_grad_() for parameter in parameters(dtype)]
    mine = [on_device(parameter.detach()).requires_grad_() for parameter in theirs]
    cpu, device = (optimizer(given, fused=True, **options) for given in (theirs, mine))
    for step in range(20):
        for at, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            # The CPU's kernels walk memory, whatever the strides: its gradients must lie like the parameters.
            other.grad = torch.empty_like(other).copy_(numbers(*other.shape, dtype=dtype, seed=100 * step + at))
            one.grad = on_device(other.grad)
        cpu.step()
        device.step()
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-10}
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one.detach().cpu(), other.detach(), **tolerance)


def test_one_launch_a_step():
    given = [torch.ones(10, device=DEVICE, requires_grad=True) for _ in range(5)]
    optimizer = torch.optim.SGD(given, lr=0.1, momentum=0.9, fused=True)
    for parameter in given:
        parameter.grad = torch.ones(10, device=DEVICE)
    optimizer.step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        optimizer.step()
    steps = [event.name for event in profile.events() if "fused_sgd" in event.name and "aten" not in event.name]
    assert len(steps) == 1, steps


def test_steps_do_not_depend_on_the_thread_count():
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        parameter = on_device(numbers(300, 301)).requires_grad_()
        optimizer = torch.optim.AdamW([parameter], fused=True)
        for step in range(3):
            parameter.grad = on_device(numbers(300, 301, seed=step))
            optimizer.step()
        results.append(parameter.detach().cpu())
    torch.set_num_threads(before)
    assert torch.equal(*results)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_gradient_scaling(optimizer):
    theirs, mine = (numbers(30).requires_grad_() for _ in range(2))
    mine = on_device(mine.detach()).requires_grad_()
    steps = []
    for parameter in (theirs, mine):
        scaler = torch.amp.GradScaler(parameter.device.type, init_scale=8.0, growth_interval=2)
        step = optimizer([parameter], lr=0.1, fused=True)
        for at in range(5):
            step.zero_grad()
            loss = (parameter * (torch.inf if at == 2 else 2.0)).sum()
            scaler.scale(loss).backward()
            scaler.step(step)
            scaler.update()
        steps.append(scaler.get_scale())
    assert steps[0] == steps[1]
    torch.testing.assert_close(mine.detach().cpu(), theirs.detach())


def test_unscaling():
    grads = [on_device(numbers(5)), on_device(numbers(4, 3)).t()]
    expected = [grad.cpu() * 0.5 for grad in grads]
    found, inverse = torch.zeros(1, device=DEVICE), torch.full((1,), 0.5, device=DEVICE)
    torch._amp_foreach_non_finite_check_and_unscale_(grads, found, inverse)
    assert found.item() == 0
    for grad, wanted in zip(grads, expected, strict=True):
        assert torch.equal(grad.cpu(), wanted)
    grads[1][0, 0] = torch.inf
    torch._amp_foreach_non_finite_check_and_unscale_(grads, found, inverse)
    assert found.item() == 1
