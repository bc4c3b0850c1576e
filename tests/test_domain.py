"""Functions outside of their domains, at the ends of these, and at the ends of their dtypes: as on the CPU."""

import pytest
import torch
import torch.nn.functional as F
from compared import FLOATS

INFINITY, NAN = float("inf"), float("nan")
MATHS = [
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "ceil",
    "cos",
    "cosh",
    "deg2rad",
    "digamma",
    "erf",
    "erfc",
    "erfinv",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "frac",
    "i0",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "lgamma",
    "log",
    "log10",
    "log1p",
    "log2",
    "logical_not",
    "logit",
    "nan_to_num",
    "neg",
    "rad2deg",
    "reciprocal",
    "relu",
    "round",
    "rsqrt",
    "sgn",
    "sigmoid",
    "sign",
    "signbit",
    "sin",
    "sinc",
    "sinh",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "trunc",
    "angle",
]
ACTIVATIONS = [
    "celu",
    "elu",
    "gelu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "relu6",
    "selu",
    "silu",
    "softplus",
    "softshrink",
    "softsign",
    "tanhshrink",
]
OPS = {
    **{name: getattr(torch, name) for name in MATHS},
    **{name: getattr(F, name) for name in ACTIVATIONS},
    **{name: getattr(torch.special, name) for name in ("entr", "i0e", "i1", "i1e", "ndtr")},
    "threshold": lambda x: F.threshold(x, 0.5, 2.0),
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "trigamma": lambda x: torch.polygamma(1, x),
    "mantissa": lambda x: torch.frexp(x)[0],
    "exponent": lambda x: torch.frexp(x)[1],
    "lowest 0": lambda x: x.clamp(min=0),
    "highest -0": lambda x: x.clamp(max=-0.0),
    **{f"power {n}": lambda x, n=n: x**n for n in (0, 1, 2, 3, -1, 0.5, -0.5, 1.5, 2.5, -3, INFINITY, -INFINITY, NAN)},
    **{f"power of {n}": lambda x, n=n: n**x for n in (0.0, 1.0, 2.0, 0.5, -2.0, INFINITY, -INFINITY, NAN)},
}
#: The CPU's value is not the function's: (op, argument) and what is right.
RIGHT = {("gelu", INFINITY): INFINITY}
#: The CPU has no kernel for halves, or takes powers of f16 for roots, which differ at minus zero and infinity.
NOT_IN_F16 = ("power 0.5", "power -0.5")


def values(dtype):
    info = torch.finfo(dtype)
    denormal = info.tiny * info.eps
    near = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 6.0, 10.0, 20.0, 50.0, 1e-3, 1e-5, 1e-8]
    far = [88.8, 104.0, 128.0, 150.0, 200.0, 709.8, 745.2, 800.0, 1000.0, 5e4, 1e5, 1e10, 1e20, 1e38, 1e300]
    ends = [info.max, info.tiny, denormal, info.tiny / 2, info.eps, info.eps**2, INFINITY, NAN]
    sides = [1 + info.eps, 1 - info.eps / 2, 1.5707963267948966, 3.141592653589793]
    positive = torch.tensor(near + far + ends + sides, dtype=torch.float64)
    return torch.cat([positive, -positive]).to(dtype)


def digits(dtype, name):
    """The relative error that counts as none: the CPU's own polynomials have some."""
    if name in ("digamma", "lgamma", "trigamma", "erfinv", "gelu", "gelu tanh", "tanhshrink") or name.startswith(
        "power"
    ):
        return max(64 * torch.finfo(dtype).eps, 2e-4 if name in ("gelu", "gelu tanh") else 2e-5)
    return 4 * torch.finfo(dtype).eps


def differences(name, given, actual, expected):
    """Where they differ: (argument, actual, expected)."""
    for (op, argument), right in RIGHT.items():
        if op == name:
            expected = torch.where(given == argument, torch.tensor(right, dtype=expected.dtype), expected)
    if not expected.is_floating_point():
        same = actual == expected
    else:
        wide, reference = actual.double(), expected.double()
        # A result without a normal number's digits may be flushed to zero.
        small = torch.finfo(given.dtype).tiny * (1 + torch.finfo(given.dtype).eps)
        close = (wide - reference).abs() <= digits(given.dtype, name) * reference.abs() + small
        same = close | (wide == reference) | (wide.isnan() & reference.isnan())
        is_zero = (wide == 0) & (reference == 0) & ((given == 0) | (given.abs() > small))
        # Where softshrink cuts, the sign depends on where in the tensor an element is.
        same &= ~is_zero | (wide.signbit() == reference.signbit()) | (name == "softshrink")
    wrong = (~same).nonzero().flatten().tolist()
    return [(given[at].item(), actual[at].item(), expected[at].item()) for at in wrong]


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_function_is_the_cpus_at_special_values(dtype):
    given = values(dtype)
    moved = given.to("rustorch")
    names = [name for name in OPS if dtype != torch.float16 or name not in NOT_IN_F16]
    # The CPU's erf of bf16 is zero from 1e-8 down.
    expected = {name: OPS[name](given.float()).to(dtype) if name == "erf" else OPS[name](given) for name in names}
    if dtype == torch.float64:
        expected["erf"] = torch.erf(given)
    wrong = {name: differences(name, given, OPS[name](moved).cpu(), expected[name]) for name in names}
    assert {name: found for name, found in wrong.items() if found} == {}


@pytest.mark.parametrize("dtype", FLOATS)
def test_compiled_functions_are_the_eager_ones_at_special_values(dtype, fresh_dynamo):
    def every(x):
        return [function(x) for function in OPS.values()]

    # As long as a vector's whole turns, and more.
    moved = values(dtype).repeat(5).to("rustorch")
    compiled = torch.compile(every, backend="rust_backend")(moved)
    for name, actual, expected in zip(OPS, compiled, every(moved), strict=True):
        actual, expected = actual.cpu(), expected.cpu()
        assert actual.dtype == expected.dtype
        same = (actual == expected) & (actual.signbit() == expected.signbit()) | (actual != actual) & (
            expected != expected
        )
        if name == "softshrink":
            same |= actual == expected  # Its decomposition keeps the sign of what it cuts.
        assert same.all(), (name, differences(name, values(dtype).repeat(5), actual, expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_functions_near_the_ends_of_their_domains(dtype):
    """By their definitions, to 50 digits (mpmath)."""
    near_one = 1 - torch.finfo(dtype).eps / 2
    right = {
        torch.acosh: [(0.5, NAN), (-100.0, NAN), (-1e5, NAN), (1.0, 0.0)],
        torch.erfinv: [(near_one, 3.8325069)] if dtype == torch.float32 else [],
        torch.special.erfcx: [(10.0, 0.05614099274382259), (26.0, 0.021683584850562907)],
    }
    for function, pairs in right.items():
        for argument, value in pairs:
            actual = function(torch.tensor(argument, dtype=dtype, device="rustorch")).cpu()
            expected = torch.tensor(value, dtype=dtype)
            torch.testing.assert_close(actual, expected, rtol=2 * torch.finfo(dtype).eps, atol=0, equal_nan=True)
    if dtype == torch.float64:
        torch.testing.assert_close(
            torch.erfinv(torch.tensor(near_one, dtype=dtype, device="rustorch")).item(),
            5.863584748755167,
            rtol=1e-12,
            atol=0,
        )
        # -2 zeta(3, x), close to a pole.
        close = torch.polygamma(2, torch.tensor([-1e-5, -1e-8], dtype=dtype, device="rustorch")).cpu()
        torch.testing.assert_close(close, torch.tensor([2e15, 2e24], dtype=dtype), rtol=1e-13, atol=0)


BINARY = {
    function.__name__: function
    for function in (
        *(torch.maximum, torch.minimum, torch.fmax, torch.fmin),
        *(torch.add, torch.sub, torch.mul, torch.div, torch.copysign),
    )
}
SPECIAL = [NAN, INFINITY, -INFINITY, 0.0, -0.0, 1.0, -1.5]


@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_of_two_are_the_cpus_at_every_pair_of_special_values(dtype):
    pairs = torch.tensor(SPECIAL, dtype=dtype)
    a, b = (side.flatten().contiguous() for side in torch.meshgrid(pairs, pairs, indexing="ij"))
    for name, function in BINARY.items():
        expected, actual = function(a, b), function(a.to("rustorch"), b.to("rustorch")).cpu()
        torch.testing.assert_close(actual, expected, equal_nan=True, msg=lambda text, name=name: f"{name}: {text}")
        if not name.startswith(("max", "min", "fm")):  # Which of two zeros is the larger is not defined.
            same = (actual.signbit() == expected.signbit()) | expected.isnan()
            assert same.all(), (name, a[~same], b[~same])
