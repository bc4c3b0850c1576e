"""Numbers that a dtype cannot hold, and operands of other dtypes: refused, converted and rounded as on the CPU."""

import pytest
import torch
import torch.nn.functional as F
from compared import ALL, DEVICE, FLOATS, INTEGERS, assert_same, on_device

INFINITY, NAN = float("inf"), float("nan")
NUMBERS = [0, 1, 2, -1, 0.5, -0.5, 0.1, True, False, 127, 255, 256, 300, -129, -300, 70000, 2**31, 2**40, 2**63 - 1]
NUMBERS += [-(2**63), 1e5, 1e39, -1e39, 1e300, 1e20, INFINITY, -INFINITY, NAN, 2.7, 254.9, 255.9]


def index(x):
    return torch.tensor([0, 2], device=x.device)


def mask(x):
    return torch.arange(x.numel(), device=x.device) % 2 == 0


def written(x, key, number):
    result = x.clone()
    result[key] = number
    return result


def square(x):
    return x[:4].view(2, 2)


#: Of a tensor and a number.
OPS = {
    "clamp max": lambda x, n: x.clamp(max=n),
    "clamp min": lambda x, n: x.clamp(min=n),
    "clamp": lambda x, n: x.clamp(-1, n),
    "clamp_": lambda x, n: x.clone().clamp_(max=n),
    "clamp_min_": lambda x, n: x.clone().clamp_min_(n),
    "hardtanh": lambda x, n: F.hardtanh(x, -1, n),
    "hardtanh_": lambda x, n: F.hardtanh_(x.clone(), -1, n),
    "add alpha": lambda x, n: torch.add(x, x, alpha=n),
    "sub alpha": lambda x, n: torch.sub(x, x, alpha=n),
    "rsub alpha": lambda x, n: torch.rsub(x, x, alpha=n),
    "add_ alpha": lambda x, n: x.clone().add_(x, alpha=n),
    "index_add alpha": lambda x, n: x.index_add(0, index(x), x[:2], alpha=n),
    "addcmul": lambda x, n: torch.addcmul(x, x, x, value=n),
    "addcdiv": lambda x, n: torch.addcdiv(x, x, x, value=n),
    "lerp": lambda x, n: torch.lerp(x, x + x, n),
    "addmm alpha": lambda x, n: torch.addmm(square(x), square(x), square(x), alpha=n),
    "addmm beta": lambda x, n: torch.addmm(square(x), square(x), square(x), beta=n),
    "addmv": lambda x, n: torch.addmv(x[:2], square(x), x[:2], alpha=n),
    "addr": lambda x, n: torch.addr(square(x), x[:2], x[:2], alpha=n),
    "baddbmm": lambda x, n: torch.baddbmm(square(x)[None], square(x)[None], square(x)[None], alpha=n),
    "threshold": lambda x, n: F.threshold(x, n, 7),
    "threshold value": lambda x, n: F.threshold(x, 1, n),
    "leaky_relu": lambda x, n: F.leaky_relu(x, n),
    "elu": lambda x, n: F.elu(x, n),
    "softplus": lambda x, n: F.softplus(x, 1, n),
    "hardshrink": lambda x, n: F.hardshrink(x, n),
    "pow": lambda x, n: x**n,
    "pow_": lambda x, n: x.clone().pow_(n),
    "fill_": lambda x, n: x.clone().fill_(n),
    "full": lambda x, n: torch.full((3,), n, dtype=x.dtype, device=x.device),
    "masked_fill": lambda x, n: x.masked_fill(mask(x), n),
    "masked_fill_": lambda x, n: x.clone().masked_fill_(mask(x), n),
    "masked_fill tensor": lambda x, n: x.masked_fill(mask(x), torch.tensor(n, device=x.device)),
    "index_fill": lambda x, n: x.index_fill(0, index(x), n),
    "index_fill_": lambda x, n: x.clone().index_fill_(0, index(x), n),
    "scatter": lambda x, n: x.scatter(0, index(x), n),
    "scatter_": lambda x, n: x.clone().scatter_(0, index(x), n),
    "scatter add": lambda x, n: x.scatter(0, index(x), n, reduce="add"),
    "by index": lambda x, n: written(x, index(x), n),
    "by mask": lambda x, n: written(x, mask(x), n),
    "where": lambda x, n: torch.where(mask(x), x, n),
    "pad": lambda x, n: F.pad(x, (1, 1), value=n),
    "linspace": lambda x, n: torch.linspace(0, n, 3, dtype=x.dtype, device=x.device),
    "_foreach_add": lambda x, n: torch._foreach_add([x], n)[0],
    "_foreach_add alpha": lambda x, n: torch._foreach_add([x], [x], alpha=n)[0],
    "_foreach_mul": lambda x, n: torch._foreach_mul([x], n)[0],
    "_foreach_pow": lambda x, n: torch._foreach_pow([x], n)[0],
    "_foreach_clamp_max": lambda x, n: torch._foreach_clamp_max([x], n)[0],
    "_foreach_addcmul": lambda x, n: torch._foreach_addcmul([x], [x], [x], n)[0],
}


#: Their sums are taken in another order, which shows where they overflow.
PRODUCTS = ("addmm alpha", "addmm beta", "addmv", "addr", "baddbmm")


def elements(dtype):
    if dtype == torch.bool:
        return torch.tensor([True, False, True, True, False, False])
    if dtype.is_floating_point:
        return torch.tensor([0.0, 1.0, -1.5, 3.0, 256.0, 0.25], dtype=dtype)
    info = torch.iinfo(dtype)
    return torch.tensor([0, 1, max(-1, info.min), info.max, info.min + 1, 5], dtype=dtype)


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:
        return type(error)


#: The CPU's own: it divides and multiplies halves in more roundings, and gives up its last digits.
TOLERANCE = {
    torch.float32: (1e-5, 0),
    torch.float64: (1e-12, 0),
    torch.float16: (2e-3, 1e-7),
    torch.bfloat16: (1.6e-2, 0),
}


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("name", OPS)
def test_a_number_is_refused_or_converted_as_on_the_cpu(name, dtype):
    for number in NUMBERS:
        if number == -(2**63) and "sub" in name:
            continue  # It has no negative in i64, which the CPU adds.
        if name == "where" and dtype in (torch.float16, torch.bfloat16) and 65504 < abs(number) < INFINITY:
            continue  # The CPU makes a tensor of infinity of it, other devices fill one, which refuses it.
        expected = outcome(OPS[name], elements(dtype), number)
        actual = outcome(OPS[name], elements(dtype).to(DEVICE), number)
        if isinstance(expected, torch.Tensor):
            assert isinstance(actual, torch.Tensor), (number, actual)
            if name in PRODUCTS and not abs(number) < 1e4:
                continue
            if "alpha" in name and dtype == torch.float16 and abs(number) > 255:
                continue  # The CPU's product overflows before it is added.
            relative, absolute = TOLERANCE.get(expected.dtype, (0, 0))
            assert_same(actual, expected, rtol=relative, atol=absolute)
        else:
            assert actual is expected, (number, actual, expected)


def test_what_a_number_becomes():
    """Values beside the ops, whatever the CPU does."""

    def check(actual, expected):
        assert actual.cpu().tolist() == expected

    signed = torch.tensor([-100, 3, 127], dtype=torch.int8, device=DEVICE)
    unsigned = torch.tensor([0, 3, 200], dtype=torch.uint8, device=DEVICE)
    flags = torch.zeros(3, dtype=torch.bool, device=DEVICE)
    first = torch.tensor([True, False, False], device=DEVICE)
    check(signed.clamp(max=300), [-100, 3, 127])
    check(unsigned.clamp(min=-1), [0, 3, 200])
    check(F.hardtanh(unsigned, -1, 100), [0, 3, 100])
    for number in (0.5, -0.25, NAN, 1e-300):
        check(flags.masked_fill(first, number), [True, False, False])
        check(flags.index_fill(0, index(flags), number), [True, False, True])
        check(flags.scatter(0, index(flags), number), [True, False, True])
        check(flags.clone().fill_(number), [True] * 3)
        check(torch.full((1,), number, dtype=torch.bool, device=DEVICE), [True])
        check(written(flags, first, number), [True, False, False])
    for refused in (
        lambda: torch.add(signed, signed, alpha=300),
        lambda: signed.index_fill(0, index(signed), 300),
        lambda: signed.clamp(min=300),
        lambda: unsigned.scatter(0, index(unsigned), 256),
    ):
        with pytest.raises(RuntimeError):
            refused()


ROUNDED = {
    **{name: getattr(torch, name) for name in ("add", "sub", "mul", "div", "remainder", "fmod", "maximum", "minimum")},
    **{name: getattr(torch, name) for name in ("atan2", "hypot", "logaddexp", "copysign", "fmax", "pow")},
    **{name: getattr(torch, name) for name in ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "where")},
}
ROUNDED["where"] = lambda a, b: torch.where(a > 1, a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ROUNDED)
def test_operands_are_rounded_to_the_common_dtype_first(name, dtype):
    function = ROUNDED[name]
    half = torch.tensor([256.0, 257.0, 1.0, -3.14, 2049.0, 0.1], dtype=torch.float64).to(dtype)
    others = [
        torch.tensor([257, 256, 1, -3, 2049, 0], dtype=torch.int32),
        torch.tensor([257, 256, 1, -3, 2049, 0], dtype=torch.int64).flip(0),
        torch.tensor(257),
        torch.tensor(2049.3, dtype=torch.float64),
        torch.tensor(0.1),
        0.1,
        257,
        1 / 3,
    ]
    for other in others:
        if name in ("hypot", "atan2", "logaddexp", "maximum", "minimum", "fmax", "logical_and") and not isinstance(
            other, torch.Tensor
        ):
            continue
        expected, actual = function(half, other), function(*on_device((half, other)))
        relative, absolute = TOLERANCE.get(expected.dtype, (0, 0))
        assert_same(actual, expected, rtol=relative / 4, atol=absolute)


def test_rounded_operands():
    def on(value, dtype):
        return torch.tensor([value], dtype=dtype, device=DEVICE)

    half, whole = on(256.0, torch.bfloat16), on(257, torch.int32)
    assert (half == whole).all() and (half == 257).all() and (whole == half).all() and not (half < whole).any()
    # A product keeps the number, a sum does not.
    assert (on(1.0, torch.bfloat16) + 257).item() == 256 and (on(3.0, torch.bfloat16) * 257).item() == 772
    assert (on(2.0, torch.float16) - 70000).item() == -INFINITY

    def function(a, b):
        return a == b, a + b, torch.maximum(a, b), a * 257

    compiled = torch.compile(function, backend="rust_backend")
    long = (half.expand(100).clone(), whole.expand(100).clone())
    for actual, expected in zip(compiled(*long), function(*long), strict=True):
        assert actual.dtype == expected.dtype and torch.equal(actual.cpu(), expected.cpu())


@pytest.mark.parametrize("out", FLOATS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_wider_out_gets_what_the_op_gives(dtype, out):
    a = torch.tensor([65000.0, -65000.0, 0.1, 3.14159], dtype=torch.float64).to(dtype).to(DEVICE)
    b = torch.tensor([65000.0, -65000.0, 0.3, 1e-4], dtype=torch.float64).to(dtype).to(DEVICE)
    for function in (torch.add, torch.mul, torch.sub, torch.div, torch.hypot, torch.fmod):
        into = torch.empty(4, dtype=out, device=DEVICE)
        assert torch.equal(function(a, b, out=into).cpu(), function(a, b).to(out).cpu()), function
    for function in (
        torch.exp,
        torch.sin,
        torch.sqrt,
        torch.reciprocal,
        torch.tanh,
        torch.log,
        torch.square,
    ):
        into = torch.empty(4, dtype=out, device=DEVICE)
        torch.testing.assert_close(
            function(a, out=into).cpu(), function(a).to(out).cpu(), rtol=0, atol=0, equal_nan=True
        )


#: PyTorch takes the dtype of a sum, a product or a mean from `out`; the other reductions refuse one of another dtype,
#: or compute in it.
REDUCTIONS = {
    "sum": torch.sum,
    "nansum": torch.nansum,
    "prod": torch.prod,
    "mean": torch.mean,
    "std": torch.std,
    "var": torch.var,
    "cumsum": torch.cumsum,
    "cumprod": torch.cumprod,
    "logsumexp": torch.logsumexp,
    "amax": torch.amax,
    "all": torch.all,
    "argmax": torch.argmax,
    "norm": torch.norm,
    "vector_norm": lambda x, dim, out: torch.linalg.vector_norm(x, 2, dim, out=out),
    "softmax": lambda x, dim, out: torch.softmax(x, dim, out=out),
    "sum in f32": lambda x, dim, out: torch.sum(x, dim, dtype=torch.float32, out=out),
}


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int32, torch.uint8, torch.bool])
def test_reductions_into_another_dtype(name, dtype):
    x = torch.tensor([[60000.0, 60000.0, -1.0], [3e4, 3e4, 1e-3]]).to(dtype)
    for out in (torch.float64, torch.float32, torch.float16, torch.int64, torch.int16):
        outcomes = []
        for device in ("cpu", DEVICE):
            into = torch.empty(2 if "cum" not in name and name != "softmax" else (2, 3), dtype=out, device=device)
            try:
                REDUCTIONS[name](x.to(device), 1, out=into)
                outcomes.append(into.cpu())
            except Exception as error:
                outcomes.append(type(error))
        expected, actual = outcomes
        if isinstance(expected, type) or isinstance(actual, type):
            assert actual == expected, out
        elif not (name == "prod" and out == torch.float16):  # On the CPU f16 overflows on the way.
            tolerance = 2e-3 if torch.float16 in (dtype, out) else 1e-2 if dtype == torch.bfloat16 else 1e-6
            torch.testing.assert_close(actual, expected, rtol=tolerance, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_floats_that_do_not_fit_an_integer(dtype):
    """x86's conversion: what does not fit in i32 (i64 for int64 and uint8), and NaN, is the lowest number there."""
    values = [
        INFINITY,
        -INFINITY,
        NAN,
        1e30,
        -1e30,
        3e9,
        -3e9,
        2.0**31,
        -(2.0**31),
        -(2.0**31) - 1,
        2.0**32,
        2.0**32 - 1,
    ]
    values += [
        300.0,
        -1.0,
        -300.0,
        65536.0,
        70000.0,
        -70000.0,
        1e10,
        9.3e18,
        -9.3e18,
        2.0**63,
        255.9,
        -0.9,
        128.0,
        -129.0,
    ]
    narrow = dtype not in (torch.int64, torch.uint8)
    lowest, end = (-(2**31), 2**31) if narrow else (-(2**63), 2**63)

    def cut(value):
        fits = value == value and abs(value) != INFINITY and lowest <= int(value) < end
        low = (int(value) if fits else lowest) % 2 ** torch.iinfo(dtype).bits
        return low - 2 ** torch.iinfo(dtype).bits if low > torch.iinfo(dtype).max else low

    for source in FLOATS:
        given = torch.tensor(values * 9, dtype=torch.float64).to(source)
        expected = [cut(value) for value in given.tolist()]
        assert given.to(dtype).tolist() == expected  # The CPU's own.
        assert given.to(DEVICE).to(dtype).cpu().tolist() == expected
        scattered = torch.stack([given, given], 1).to(DEVICE)[:, 0]
        assert scattered.to(dtype).cpu().tolist() == expected
        assert torch.zeros(len(given), dtype=dtype, device=DEVICE).copy_(given.to(DEVICE)).cpu().tolist() == expected
