"""Special functions, functions of bits and integers, and ops that are a few launches of others."""

import pytest
import torch
from compared import ALL, FLOATS, INTEGERS, check, check_error, numbers

SPECIAL = {
    "lgamma": torch.lgamma,
    "digamma": torch.digamma,
    "erfinv": torch.erfinv,
    "i0": torch.i0,
    "i0e": torch.special.i0e,
    "i1": torch.special.i1,
    "i1e": torch.special.i1e,
    "sinc": torch.sinc,
    "angle": torch.angle,
    "entr": torch.special.entr,
    **{f"polygamma {order}": lambda x, order=order: torch.polygamma(order, x) for order in range(5)},
}
NO_HALVES = {"erfcx": torch.special.erfcx, "ndtri": torch.special.ndtri, "log_ndtr": torch.special.log_ndtr}
VALUES = [-3.5, -1.0, -0.7, -0.0, 0.0, 0.1, 0.5, 0.99, 1.0, 2.0, 9.5, 10.0, 11.5, float("nan")]


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("name", SPECIAL)
def test_special_functions(name, dtype):
    values = torch.tensor(VALUES)
    values = values.to(dtype) if dtype.is_floating_point else values.nan_to_num(3).to(dtype)
    try:
        SPECIAL[name](values)
    except NotImplementedError:
        return  # The CPU has no kernel for this dtype.
    loose = {} if dtype in (torch.float64, torch.bfloat16, torch.float16) else {"rtol": 1e-5, "atol": 1e-5}
    if name.startswith("polygamma") and dtype == torch.float16:
        # The CPU rounds both factors to f16 before it multiplies them.
        loose = {"rtol": 4e-3, "atol": 1e-5}
    check(SPECIAL[name], values, **loose)
    check(SPECIAL[name], torch.stack([values, values], 1)[:, 0], **loose)
    check(SPECIAL[name], values[:0], **loose)


@pytest.mark.parametrize("name", NO_HALVES)
def test_special_functions_of_probabilities(name):
    for dtype in (torch.float32, torch.float64, torch.int64):
        check(NO_HALVES[name], torch.tensor(VALUES).nan_to_num(3).to(dtype), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["lgamma", "digamma", "erfinv", "i0", "i0e", "i1", "sinc", "polygamma 1", "entr"])
def test_gradients_of_special_functions(name):
    check(SPECIAL[name], torch.tensor([0.1, 0.5, 0.9, 0.3], dtype=torch.float64), grad=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_two_arguments(dtype):
    a, x = torch.rand(50, dtype=dtype) * 20, torch.rand(3, 50, dtype=dtype) * 20
    close = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-7, "atol": 1e-9}
    check(torch.igamma, a, x, **close)
    check(torch.igammac, a, x, **close)
    check(torch.special.zeta, a + 1.1, x + 0.1, **close)
    check(torch.special.xlog1py, a - 5, x, **close)
    check(torch.logaddexp2, a - 5, x, **close)
    check(lambda a, b, out: torch.xlogy(a, b, out=out), a, x, torch.empty(3, 50, dtype=dtype), **close)
    check(lambda x: torch.igamma(torch.tensor(2.0, dtype=dtype), x), x, grad=True, **close)


@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_of_bits(dtype):
    infinity, nan = float("inf"), float("nan")
    special = torch.tensor([0.0, -0.0, 1.0, -1.0, infinity, -infinity, nan, 6e-8, 65504.0], dtype=dtype)
    a, b = special[:, None], special.flip(0)[None]
    bits = {torch.float64: torch.int64, torch.float32: torch.int32}.get(dtype, torch.int16)
    check(lambda a, b: torch.nextafter(a, b).nan_to_num(7).view(bits), a, b)
    check(lambda a, b: torch.isnan(torch.nextafter(a, b)), a, b)
    check(lambda a, b: a.clone().expand(9, 9).clone().nextafter_(b).nan_to_num(7), a, b)
    check(torch.frexp, special)
    check(torch.frexp, torch.stack([special, special], 1)[:, 1])
    check(torch.nan_to_num, special)
    check(lambda x: torch.nan_to_num(x, 1.0, 2.0, 3.0), special)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_functions_of_integers(dtype):
    a, b = numbers(40, dtype=dtype), numbers(3, 40, dtype=dtype, seed=1)
    check(torch.gcd, a, b)
    check(torch.lcm, a, b)
    check(torch.nan_to_num, a)
    check(torch.floor_divide, a, b.abs().clamp(min=1))
    check_error(torch.floor_divide, a, torch.zeros_like(a))


@pytest.mark.parametrize("decimals", [0, 2, -1])
def test_round_to_decimals(decimals):
    check(lambda x: torch.round(x, decimals=decimals), torch.randn(77) * 100)
    check(lambda x: x.clone().round_(decimals=decimals), torch.randn(7, 5, dtype=torch.float64).t() * 100)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *INTEGERS])
def test_sequences(dtype):
    signed = -3 if dtype != torch.uint8 else 3
    for steps in (0, 1, 2, 7, 50):
        check(lambda out, steps=steps: torch.linspace(signed, 40, steps, out=out), torch.empty(0, dtype=dtype))
        check(lambda out, steps=steps: torch.logspace(0, 2, steps, base=2.0, out=out), torch.empty(0, dtype=dtype))
    check(lambda out: torch.linspace(1, 6, 6, out=out), torch.zeros(2, 3, dtype=dtype).t())
    check(lambda out: torch.eye(3, 5, out=out), torch.empty(0, dtype=dtype))
    check(lambda out: torch.eye(4, out=out), torch.empty(8, 4, dtype=dtype)[::2])
    check_error(lambda out: torch.linspace(0, 1, -1, out=out), torch.empty(0, dtype=dtype))


@pytest.mark.allow_fallback  # it is the CPU that refuses
def test_sequences_of_dtypes_that_rust_lacks():
    check_error(lambda out: torch.arange(3, out=out), torch.empty(0, dtype=torch.uint16))


def test_cross():
    a, b = torch.randn(4, 3, 5), torch.randn(1, 3, 5)
    check(lambda a, b: torch.linalg.cross(a, b, dim=1), a, b, grad=True)
    check(lambda a, b: torch.linalg.cross(a.t(), b.t(), dim=0), torch.randn(6, 3), torch.randn(6, 3))
    out = torch.empty(3, 4, 5).transpose(0, 1)
    check(lambda a, b, out: torch.linalg.cross(a, b, dim=1, out=out), a, b, out)
    check_error(lambda a, b: torch.linalg.cross(a, b, out=a), torch.randn(6, 3), torch.randn(6, 3))
    check(lambda a, b: torch.linalg.cross(a, b), numbers(6, 3, dtype=torch.int32), numbers(6, 3, dtype=torch.int32))
    check_error(lambda a, b: torch.linalg.cross(a, b), torch.randn(6, 4), torch.randn(6, 4))


@pytest.mark.parametrize("p", [0.5, 1, 2, float("inf")])
def test_renorm(p):
    check(lambda x: torch.renorm(x, p, 1, 1.5), torch.randn(4, 6, 3), grad=True)
    check(lambda x: x.clone().renorm_(p, 0, 1.5), torch.randn(4, 6).t())
    check(lambda x: torch.renorm(x, p, -1, 1.5), torch.randn(4, 6).bfloat16())


def test_trace_and_equality():
    check(torch.trace, torch.randn(5, 7), grad=True)
    check(torch.trace, numbers(5, 3, dtype=torch.int16))
    check_error(torch.trace, torch.randn(3))
    tensor = torch.randn(3, 4).to("rustorch")
    assert torch.equal(tensor, tensor.clone()) and torch.equal(tensor.t(), tensor.t().contiguous())
    assert not torch.equal(tensor, tensor + 1) and not torch.equal(tensor, tensor[:2])
    assert not torch.equal(tensor / 0 * 0, tensor / 0 * 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
def test_products_of_batches(dtype):
    a, b, c = numbers(5, 3, 7, dtype=dtype), numbers(5, 7, 4, dtype=dtype, seed=1), numbers(3, 4, dtype=dtype, seed=2)
    loose = {"rtol": 3e-2, "atol": 3e-1} if dtype == torch.bfloat16 else {}
    check(torch.addbmm, c, a, b, **loose)
    check(lambda c, a, b: torch.addbmm(c, a, b, beta=2, alpha=3), c[0], a, b, **loose)
    check(lambda c, a, b: c.clone().addbmm_(a.transpose(1, 2).contiguous().transpose(1, 2), b), c, a, b, **loose)
    check(torch.addbmm, c, a[:0], b[:0], **loose)
    check(torch.vdot, a[:, 0, 0], b[:, 0, 0], **loose)
    check_error(torch.addbmm, c, a, b[:, :3])
    check_error(torch.vdot, a, b)


@pytest.mark.parametrize("dtype", FLOATS)
def test_sums_without_nan_and_both_extremes(dtype):
    values = numbers(7, 5, 3, dtype=dtype)
    holes = values.masked_fill(values > 1, float("nan"))
    for dims in (None, 1, (0, 2)):
        check(lambda x, dims=dims: torch.nansum(x, dims), holes)
        check(lambda x, dims=dims: torch.nanmean(x, dims), holes.transpose(0, 2))
    check(lambda x: torch.aminmax(x), holes)
    check(lambda x: torch.aminmax(x, dim=1, keepdim=True), values.transpose(0, 2))
    outs = [torch.empty(0, dtype=dtype) for _ in range(2)]
    check(lambda x, low, high: torch.aminmax(x, dim=1, out=(low, high)), values, *outs)
    check_error(torch.aminmax, values[:0])


def test_complex_numbers_from_parts():
    a, b = torch.randn(4, 3), torch.randn(3)
    check(torch.complex, a, b)
    check(torch.polar, a, b, rtol=1e-5, atol=1e-6)
    check(lambda a, b: torch.complex(a, b), a.t(), b[:, None])
    check_error(torch.complex, a, b.double())


@pytest.mark.parametrize(("size", "step"), [(2, 2), (3, 1), (2, 3)])
def test_gradients_of_windows(size, step):
    check(lambda x: x.unfold(1, size, step), torch.randn(2, 9, 3), grad=True)
    check(lambda x: torch.narrow_copy(x, 1, 2, 4), torch.randn(2, 9, 3))


@pytest.mark.parametrize("dtype", FLOATS)
def test_ldexp_has_a_result_where_the_power_has_none(dtype):
    info = torch.finfo(dtype)
    values = torch.tensor(
        [1.5, -1.0, 0.0, -0.0, float("inf"), -float("inf"), float("nan"), info.tiny, info.max], dtype=dtype
    )
    most = int(torch.tensor(info.max, dtype=torch.float64).log2())
    exponents = [0, 1, -1, most, -most, most + 100, -most - 100, 2 * most, -2 * most, 100_000, -100_000]
    for exponent in exponents:
        check(torch.ldexp, values, torch.tensor(exponent), rtol=0, atol=0)
        check(torch.ldexp, values, torch.full((len(values),), exponent), rtol=0, atol=0)
        check(lambda x, e: x.clone().ldexp_(e), values, torch.tensor(exponent), rtol=0, atol=0)
    for value, exponent, right in (
        (2.0**-100, 200, 2.0**100),
        (2.0**-14, 20, 64.0),
        (float("inf"), -9999, float("inf")),
    ):
        if value >= info.tiny and right in (float("inf"), min(right, info.max)):
            actual = torch.ldexp(
                torch.tensor(value, dtype=dtype, device="rustorch"), torch.tensor(exponent, device="rustorch")
            )
            assert actual.dtype == dtype and actual.item() == right
    # The smallest numbers, rounded once.
    small = torch.tensor([1.5, 1.75, 3.0, 1 + info.eps], dtype=dtype)
    check(
        torch.ldexp,
        small,
        torch.tensor(int(torch.tensor(info.tiny * info.eps, dtype=torch.float64).log2())),
        rtol=0,
        atol=0,
    )


def test_ldexp_of_other_dtypes():
    check(torch.ldexp, torch.tensor([1, 2], dtype=torch.int32), torch.tensor([2, 3]))
    check(torch.ldexp, torch.tensor([1.0, 2.0]), torch.tensor([0.5, -1.5]))
    check(torch.ldexp, torch.tensor([1.0, 2.0], dtype=torch.float16), torch.tensor([0.5, -1.5]))
    check_error(torch.ldexp, torch.tensor([1.0]), torch.tensor([True]))
    check(
        torch.ldexp,
        torch.tensor([1.5, -2.0], dtype=torch.float64),
        torch.tensor([0.5, 3.0], dtype=torch.float64),
        grad=True,
    )
