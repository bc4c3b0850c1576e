"""Inductor, `torch.compile`'s default, of what is on the device: refused in a sentence, before it compiles anything."""

import pytest
import torch
from compared import DEVICE
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed

REFUSAL = r"Inductor generates no code for rustorch: say torch\.compile\(model, backend='rust_backend'\)"


def linear() -> nn.Module:
    return nn.Linear(3, 2).to(DEVICE)


def on_device() -> torch.Tensor:
    return torch.ones(2, 3, device=DEVICE)


def compile_in_place() -> None:
    model = linear()
    model.compile()
    model(on_device())


def after_a_break() -> None:
    def function(x):
        y = x + 1
        torch._dynamo.graph_break()
        return y.to(DEVICE) + 1

    torch.compile(function)(torch.ones(3))


def weights_alone() -> None:
    model = linear()
    torch.compile(lambda: model.weight * 2)()


CALLS = {
    "model": lambda: torch.compile(linear())(on_device()),
    "named": lambda: torch.compile(linear(), backend="inductor")(on_device()),
    "reduce-overhead": lambda: torch.compile(linear(), mode="reduce-overhead")(on_device()),
    "max-autotune": lambda: torch.compile(linear(), mode="max-autotune")(on_device()),
    "options": lambda: torch.compile(linear(), options={"max_autotune": False})(on_device()),
    "dynamic": lambda: torch.compile(linear(), dynamic=True)(on_device()),
    "in place": compile_in_place,
    "made in the graph": lambda: torch.compile(lambda: torch.ones(3, device=DEVICE) + 1)(),
    "moved in the graph": lambda: torch.compile(lambda x: x.to(DEVICE) + 1)(torch.ones(3)),
    "its weights alone": weights_alone,
    "after a break": after_a_break,
    "under inference": torch.inference_mode()(lambda: torch.compile(linear())(on_device())),
}


@pytest.mark.parametrize("call", CALLS)
def test_inductor_is_refused(call, fresh_dynamo, monkeypatch):
    from torch._inductor import compile_fx

    compiled = []
    inner = compile_fx.compile_fx_inner
    monkeypatch.setattr(compile_fx, "compile_fx_inner", lambda *given, **named: compiled.append(inner) or given[0])
    with pytest.raises(BackendCompilerFailed, match=REFUSAL):
        CALLS[call]()
    # What does not touch the device, before a break, is Inductor's own affair.
    assert not compiled or call == "after a break"


def test_other_doors_to_inductor_are_refused(tmp_path):
    exported = torch.export.export(linear(), (on_device(),))
    with pytest.raises(RuntimeError, match=REFUSAL):
        torch._inductor.aoti_compile_and_package(exported, package_path=str(tmp_path / "model.pt2"))


def test_inductor_of_a_cpu_model_is_left_alone(fresh_dynamo):
    # Without a compiler's work: what Inductor is handed, and which devices it generates code for.
    from torch._inductor import compile_fx
    from torch._inductor.codegen import common

    handed = []

    def inner(module, examples, **_named):
        handed.append(len(examples))
        return module.forward

    def backend(module, examples):
        return compile_fx.compile_fx(module, examples, inner_compile=inner)

    model, x = nn.Linear(3, 2), torch.ones(1, 3)
    torch.testing.assert_close(torch.compile(model, backend=backend)(x), model(x))
    assert len(handed) == 1
    assert common.get_backend_features("cpu") is not None
