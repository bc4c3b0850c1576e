"""Training through `rust_backend`, whatever a training loop does, against the same loop in eager CPU."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

DEVICES = ["cpu", "rustorch"]


pytestmark = pytest.mark.usefixtures("fresh_dynamo")


def compiled(function, **options):
    return torch.compile(function, backend="rust_backend", **options)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))


def normed() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(80, 4))


def state(*modules: nn.Module) -> list[torch.Tensor]:
    """Parameters, gradients and buffers, on the CPU."""
    tensors = []
    for module in modules:
        for parameter in module.parameters():
            tensors.append(parameter.detach().cpu())
            tensors += [parameter.grad.cpu()] if parameter.grad is not None else []
        tensors += [buffer.cpu() for buffer in module.buffers()]
    return tensors


def check_loop(loop, make, device, **tolerance):
    """`loop(model, device, wrap)` gives the losses, and leaves the model, as eager CPU does."""
    torch.manual_seed(0)
    model = make()
    moved = copy.deepcopy(model).to(device)
    torch.manual_seed(1)
    expected = loop(model, "cpu", lambda function, **_: function)
    torch.manual_seed(1)
    actual = loop(moved, device, compiled)
    tolerance = {"rtol": 1e-4, "atol": 1e-5, **tolerance}
    torch.testing.assert_close(
        [loss.detach().cpu() for loss in actual], [loss.detach() for loss in expected], **tolerance
    )
    torch.testing.assert_close(state(moved), state(model), **tolerance)


def batches(count, device, *size, classes=4):
    pairs = [(torch.randn(size), torch.randint(classes, size[:1])) for _ in range(count)]
    return [(x.to(device), y.to(device)) for x, y in pairs]


OPTIMIZERS = {
    # Nesterov's step over lists writes to the gradients, that over single tensors does not.
    "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9, nesterov=True, foreach=True),
    "adam": lambda parameters, lr: torch.optim.Adam(parameters, lr=lr, weight_decay=0.01),
    "adamw": lambda parameters, lr: torch.optim.AdamW(parameters, lr=lr, amsgrad=True),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("device", DEVICES)
def test_a_step_function_with_forward_backward_and_optimizer(device, optimizer):
    def loop(model, device, wrap):
        optimizer_of = OPTIMIZERS[optimizer](model.parameters(), 0.01)

        @wrap
        def step(x, y):
            optimizer_of.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer_of.step()
            return loss

        return [step(x, y) for x, y in batches(4, device, 8, 6)]

    check_loop(loop, mlp, device)


@pytest.mark.parametrize("device", DEVICES)
def test_a_scheduled_learning_rate(device):
    def loop(model, device, wrap):
        optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01))
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
        run, step = wrap(lambda x, y: F.cross_entropy(model(x), y)), wrap(optimizer.step)
        losses = []
        for x, y in batches(6, device, 8, 6):
            optimizer.zero_grad()
            losses.append(run(x, y))
            losses[-1].backward()
            step()
            scheduler.step()
        return losses

    check_loop(loop, mlp, device)


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_that_accumulate(device):
    def loop(model, device, wrap):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        run = wrap(lambda x, y: F.cross_entropy(model(x), y) / 2)
        losses = []
        for number, (x, y) in enumerate(batches(6, device, 5, 6)):
            losses.append(run(x, y))
            losses[-1].backward()
            if number % 2 == 1:
                optimizer.step()
                optimizer.zero_grad(set_to_none=number < 3)
        return losses

    check_loop(loop, mlp, device)


@pytest.mark.parametrize("device", DEVICES)
def test_buffers_of_batch_norm_in_training_and_evaluation(device):
    def loop(model, device, wrap):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        run = wrap(model)
        results = []
        for x, y in batches(3, device, 6, 2, 6, 6):
            model.train()
            optimizer.zero_grad()
            F.cross_entropy(run(x), y).backward()
            optimizer.step()
            model.eval()
            with torch.no_grad():
                results.append(run(x))
        return results

    check_loop(loop, normed, device)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.table(tokens)))


@pytest.mark.parametrize("device", DEVICES)
def test_tied_weights(device):
    def loop(model, device, wrap):
        assert model.head.weight is model.table.weight
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        run, tokens = wrap(model), torch.randint(11, (4, 7)).to(device)
        losses = []
        for _ in range(3):
            optimizer.zero_grad()
            losses.append(F.cross_entropy(run(tokens).flatten(0, 1), tokens.flatten()))
            losses[-1].backward()
            optimizer.step()
        return losses

    check_loop(loop, Tied, device)


@pytest.mark.parametrize("device", DEVICES)
def test_autocast(device):
    def loop(model, device, wrap):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

        def forward(x, y):
            with torch.autocast(device, dtype=torch.bfloat16):
                out = model(x)
                assert out.dtype == torch.bfloat16
            return F.cross_entropy(out.float(), y)

        run, losses = wrap(forward), []
        for x, y in batches(3, device, 8, 6):
            optimizer.zero_grad()
            losses.append(run(x, y))
            losses[-1].backward()
            optimizer.step()
        return losses

    check_loop(loop, mlp, device, rtol=3e-2, atol=1e-2)


@pytest.mark.parametrize("device", DEVICES)
def test_no_grad_and_inference_mode_beside_training(device):
    def loop(model, device, wrap):
        run, results = wrap(model), []
        for x, y in batches(2, device, 3, 6):
            F.cross_entropy(run(x), y).backward()
            with torch.no_grad():
                results.append(run(x))
            with torch.inference_mode():
                results.append(run(x))
                assert results[-1].is_inference() or wrap is not compiled
        assert not any(result.requires_grad for result in results)
        return [result.clone() for result in results]

    check_loop(loop, mlp, device)


@pytest.mark.parametrize("device", DEVICES)
def test_marked_dynamic_batches_compile_once(device):
    def loop(model, device, wrap):
        run, losses = wrap(model), []
        for rows in (3, 9, 5, 3, 17):
            (x, y), *_ = batches(1, device, rows, 6)
            torch._dynamo.mark_dynamic(x, 0)
            losses.append(F.cross_entropy(run(x), y))
            losses[-1].backward()
        return losses

    torch._dynamo.utils.counters.clear()
    check_loop(loop, mlp, device)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("device", DEVICES)
def test_a_graph_break_in_the_forward_pass(device):
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 4)

        def forward(self, x):
            x = self.first(x).relu()
            torch._dynamo.graph_break()
            return self.second(x * (2 if x.sum() > 0 else 3))

    def loop(model, device, wrap):
        run, losses = wrap(model), []
        for x, y in batches(3, device, 5, 6):
            losses.append(F.cross_entropy(run(x), y))
            losses[-1].backward()
        return losses

    check_loop(loop, Broken, device)


@pytest.mark.parametrize("device", DEVICES)
def test_recompiles_for_dtype_rank_and_frozen_parameters(device):
    def loop(model, device, wrap):
        run, results = wrap(lambda model, x: model(x).square().sum()), []
        for change in ("none", "frozen", "rank", "double"):
            if change == "frozen":
                model[0].weight.requires_grad_(False)
            if change == "double":
                model.zero_grad()
                model.double()
            x = torch.randn((2, 3, 6) if change == "rank" else (5, 6)).to(device, model[0].weight.dtype)
            results.append(run(model, x))
            results[-1].backward()
        return [result.float() for result in results]

    check_loop(loop, mlp, device)


@pytest.mark.parametrize("device", DEVICES)
def test_several_models_in_one_process_in_turns(device):
    def loop(both, device, wrap):
        optimizers = [torch.optim.SGD(model.parameters(), lr=0.05) for model in both]
        runs = [wrap(model) for model in both]
        losses = []
        for x, y in batches(3, device, 5, 6):
            for run, optimizer in zip(runs, optimizers, strict=True):
                optimizer.zero_grad()
                losses.append(F.cross_entropy(run(x), y))
            (losses[-1] * losses[-2]).backward()  # Both graphs are alive at once.
            for optimizer in optimizers:
                optimizer.step()
        return losses

    check_loop(loop, lambda: nn.ModuleList([mlp(), mlp()]), device)


TRAINING = """
import os, shutil, torch
assert not any(shutil.which(name) for name in ("cc", "c++", "gcc", "g++", "clang", "clang++"))
torch.manual_seed(0)
for device in ("cpu", "rustorch"):
    torch._dynamo.reset()
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.GELU(),
                                torch.nn.Dropout(0.1), torch.nn.Flatten(), torch.nn.Linear(144, 3)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x, y = torch.randn(12, 1, 8, 8).to(device), (torch.arange(12) % 3).to(device)
    run = torch.compile(lambda: torch.nn.functional.cross_entropy(model(x), y), backend="rust_backend")
    step = torch.compile(optimizer.step, backend="rust_backend")
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        losses.append(run())
        losses[-1].backward()
        step()
    assert losses[-1] < losses[0] / 2, losses
print("trained")
"""


def test_training_without_a_compiler_on_the_machine(python, tmp_path):
    done = python(TRAINING, PATH=str(tmp_path), CC="", CXX="", RUSTORCH_FALLBACK="error")
    assert done.stdout.strip() == "trained", done.stderr
