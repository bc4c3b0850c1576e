"""The parity harness: it agrees where it should, and tells where something differs."""

import json
import subprocess
import sys

import pytest
import slices
import torch
from torch import nn

from rustorch_device.parity import __main__ as command
from rustorch_device.parity.hotspots import find
from rustorch_device.parity.models import SUITE, Case, from_path
from rustorch_device.parity.run import ARMS, TOLERANCE, Reference, compare, distance, norm_distances, reference

TIGHT = TOLERANCE[torch.float32]


def tiny() -> tuple[nn.Module, torch.Tensor]:
    """A factory as a user's, for `--module`."""
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.BatchNorm1d(7), nn.Linear(7, 2)), torch.randn(6, 5)


class DependsOnDevice(nn.Module):
    """Wrong on rustorch, on purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + (1.0 if x.device.type == "rustorch" else 0.0)


@pytest.mark.parametrize("arm", ARMS)
def test_a_model_agrees_in_every_arm(arm):
    case = from_path(f"{__name__}:tiny")
    expected = reference(case, torch.float32)
    comparison = compare(case, arm, expected, torch.float32, TIGHT)
    assert comparison.agrees, comparison
    assert not comparison.fallbacks and not comparison.graph_breaks
    assert any(name.startswith("grad") for name in expected.given)
    assert any("running_mean" in name for name in expected.given)


def test_a_difference_is_told():
    case = Case(DependsOnDevice(), (torch.randn(4, 3),), lambda out: out.sum())
    comparison = compare(case, "eager", reference(case, torch.float32), torch.float32, TIGHT)
    assert not comparison.agrees and comparison.worst > 1 and comparison.where


def test_an_error_is_the_arms_result():
    def loss(out: torch.Tensor) -> torch.Tensor:
        raise KeyError("on purpose")

    case = Case(nn.Linear(3, 3), (torch.randn(4, 3),), lambda out: out.sum())
    expected = reference(case, torch.float32)
    case.loss = loss
    assert "on purpose" in compare(case, "eager", expected, torch.float32, TIGHT).error


def test_distance():
    one = torch.ones(3)
    assert distance(one, one, TIGHT) == 0
    assert distance(one + 2e-4, one, TIGHT) == pytest.approx(2e-4 / (TIGHT.atol + TIGHT.rtol), rel=1e-3)
    assert distance(one, torch.tensor([1, 1, torch.nan]), TIGHT) == float("inf")
    assert distance(torch.tensor([torch.nan]), torch.tensor([torch.nan]), TIGHT) == 0
    assert distance(one, one.double(), TIGHT) == float("inf")


def test_the_cpus_own_error_says_how_much_is_allowed():
    exact = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    far = (exact + torch.tensor([0.0, 0.02, 0.0])).float()
    expected = Reference({"out": far}, {"out": exact})
    twice, more = ((exact - torch.tensor([0.0, error, 0.0])).float() for error in (0.04, 0.05))
    assert 0.9 < expected.element_error("out", twice, TIGHT) <= 1
    assert expected.element_error("out", more, TIGHT) > 1.2
    assert expected.element_error("out", torch.full((3,), torch.nan), TIGHT) == float("inf")
    assert expected.element_error("out", twice.double(), TIGHT) == float("inf")
    exactly = Reference({"out": exact.float()}, {"out": exact})
    assert exactly.element_error("out", (exact + 1e-4).float(), TIGHT) > 1


def test_a_gradient_five_percent_off_is_told():
    exact = {"grad a": torch.tensor([3.0, 4.0], dtype=torch.float64)}
    given = {"grad a": torch.tensor([3.0, 4.0]) * (1 + 1e-6)}
    off = {"grad a": torch.tensor([3.0, 4.0]) * 1.05}
    for has_corners in (False, True):
        expected = Reference(given, exact, has_corners)
        assert expected.norm_errors("grad", off, TIGHT)["grad a"] > 2
        assert expected.norm_errors("grad", given, TIGHT)["grad a"] < 1
    flipped = {"grad a": torch.tensor([3.0, 4.0]) * 1.01}
    assert Reference(given, exact, True).norm_errors("grad", flipped, TIGHT)["grad a"] < 1
    assert Reference(given, exact, False).norm_errors("grad", flipped, TIGHT)["grad a"] > 1


def test_models_with_corners_are_known():
    x = torch.randn(4, 3)
    smooth, kinked = (
        reference(Case(nn.Sequential(nn.Linear(3, 3), layer), (x,), lambda out: out.sum()), torch.float32)
        for layer in (nn.Tanh(), nn.ReLU())
    )
    assert kinked.has_corners and not smooth.has_corners


@pytest.mark.allow_fallback
def test_a_slice_of_the_models_agrees():
    """One of the suite's models in a dtype other than f32, another for each commit; `make nightly` runs all."""
    chosen = [(name, dtype) for name in SUITE for dtype in TOLERANCE if dtype != torch.float32]
    name, dtype = chosen[slices.seed() % len(chosen)]
    torch.manual_seed(0)
    case = SUITE[name]()
    expected = reference(case, dtype)
    for arm in ("eager", "compiled"):
        comparison = compare(case, arm, expected, dtype, TOLERANCE[dtype])
        assert comparison.agrees, f"{name}, {dtype}, {slices.header()}: {comparison}"


def test_a_nodes_results_may_have_another_dtype():
    case = Case(nn.BatchNorm2d(3), (torch.randn(4, 3, 5, 5),), lambda out: out.square().sum())
    for dtype in (torch.bfloat16, torch.float16):
        assert all(spot.error <= 1 for spot in find(case, dtype, TOLERANCE[dtype], 100))


def test_norm_distances():
    expected = {"grad a": torch.tensor([3.0, 4.0]), "grad zero": torch.zeros(2), "loss": torch.ones(1)}
    actual = {"grad a": torch.tensor([3.0, 4.5]), "grad zero": torch.full((2,), 1e-9), "loss": torch.ones(1)}
    found = norm_distances(actual, expected, "grad")
    assert set(found) == {"grad a", "grad zero"}
    assert found["grad a"] == pytest.approx(0.5 / (5 + 0.1 * 12.5**0.5))
    assert found["grad zero"] < 1e-8, "what is zero but for rounding is not held to rounding"
    assert norm_distances({}, expected, "grad")["grad a"] == float("inf")
    assert norm_distances({"grad a": torch.full((2,), torch.nan)}, expected, "grad")["grad a"] == float("inf")


def test_nodes_are_compared_one_by_one():
    case = from_path(f"{__name__}:tiny")
    spots = find(case, torch.float32, TIGHT, 100)
    assert all(spot.error < 1 for spot in spots)
    assert all("aten." in spot.node for spot in spots)


def test_the_command(tmp_path):
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "rustorch_device.parity", "--models", "mlp_1", "--arms", "eager", "--json", report],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mlp_1" in done.stdout
    assert json.loads(report.read_text())["float32"]["models"]["mlp_1"]["arms"]["eager"]["agrees"]


def options(monkeypatch, *given):
    monkeypatch.setattr(sys, "argv", ["parity", *given])
    return command.arguments()


def test_tolerances_are_given_for_one_dtype_or_all(monkeypatch):
    given = options(
        monkeypatch, "--dtype", "float32", "bfloat16", "--rtol", "1e-5", "bfloat16=0.5", "--atol", "float32=0"
    )
    assert given.dtype == ["float32", "bfloat16"]
    narrow, wide = (command.tolerance_of(name, given) for name in given.dtype)
    assert (narrow.rtol, narrow.atol, narrow.norm) == (1e-5, 0, TIGHT.norm)
    assert (wide.rtol, wide.atol) == (0.5, TOLERANCE[torch.bfloat16].atol)
    with pytest.raises(SystemExit):
        options(monkeypatch, "--rtol", "float8=1")


def random_model() -> tuple[nn.Module, torch.Tensor]:
    class Noisy(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 0 * torch.randn_like(x)

    return Noisy(4, 4), torch.randn(3, 4)


def differing_model() -> tuple[nn.Module, torch.Tensor]:
    return DependsOnDevice(), torch.randn(4, 3)


def test_a_mismatch_and_what_runs_outside_are_told_and_exit_with_one(monkeypatch, capsys):
    path = f"{__name__}:random_model"
    monkeypatch.setattr(sys, "argv", ["parity", "--module", path, "--arms", "compiled_cpu"])
    assert command.main() == 0
    printed = capsys.readouterr().out
    assert "aten.randn_like.default ran outside of Rust" in printed and "generator" in printed
    path = f"{__name__}:differing_model"
    monkeypatch.setattr(sys, "argv", ["parity", "--module", path, "--arms", "eager"])
    assert command.main() == 1
    printed = capsys.readouterr().out
    assert "DIFFERS" in printed and "differs by" in printed
