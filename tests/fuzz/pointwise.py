"""Steps that compute each element from the elements at its place, casts among them."""

import torch

from fuzz.drawing import (
    DTYPES,
    Drawing,
    NoOperand,
    bends,
    bits,
    boolean,
    broadcasts_with,
    castable,
    exact,
    floating,
    numeric,
)

#: Python numbers: `True` and floats promote integers in their own ways.
NUMBERS = ["1", "2", "-1", "0.5", "-2.0", "3", "0", "True", "1.5"]

# What rounds in one way, so that exact values stay exact.
EXACT = [
    "-{x}", "{x}.square()", "{x} * {n}", "{x} + {n}", "{n} - {x}", "{x} / 2", "{x} ** 2", "+{x}", "{x} * {x}",
    "torch.ones_like({x})", "torch.full_like({x}, {n})", "{x} - {x}", "torch.zeros_like({x}) + {n}",
]  # fmt: skip
# What rounds as each library pleases.
ROUNDED = [
    "torch.exp({x})", "torch.tanh({x})", "torch.sigmoid({x})", "torch.sin({x})", "torch.cos({x})", "torch.erf({x})",
    "F.softplus({x})", "F.silu({x})", "F.gelu({x})", 'F.gelu({x}, approximate="tanh")', "F.mish({x})",
    "F.logsigmoid({x})", "torch.expm1({x})", "({x}.square() + 1).log()", "({x}.square() + 1).sqrt()",
    "({x}.square() + 1).rsqrt()", "({x}.square() + 1).reciprocal()", "torch.atan({x})", "torch.asinh({x})",
    "torch.log1p({x}.square())", "{x} / 3", "{n} / ({x}.square() + 1)", "{x} ** 3", "torch.sinc({x})",
]  # fmt: skip
# What has a kink, at which a gradient jumps.
KINKED = [
    "{x}.abs()", "torch.relu({x})", "{x}.clamp(-1, 2)", "{x}.clamp(min=0.5)", "F.hardtanh({x})", "F.relu6({x})",
    "{x}.clamp_max({n})", "F.softshrink({x})", "{x}.clamp(min=1, max=0)",
]  # fmt: skip
KINKED_AND_ROUNDED = [
    "F.leaky_relu({x})", "F.elu({x})", "F.hardswish({x})", "F.hardsigmoid({x})", "F.selu({x})", "F.celu({x})",
]  # fmt: skip
# What jumps.
JUMPING = [
    "torch.sign({x})", "torch.floor({x})", "torch.ceil({x})", "torch.round({x})", "torch.trunc({x})",
    "torch.logical_not({x})", "{x} > {n}", "{x} >= {n}", "{x} == {n}", "{x} != {n}", "{x} < {n}", "{x} % 3",
    "torch.floor_divide({x}, 2)", "torch.isnan({x})", "torch.isinf({x})", "torch.isfinite({x})", "{x}.sgn()",
    "F.threshold({x}, 0.5, 2)", "{x}.nan_to_num(1, 2, -2)", "{x} // {n}", "torch.isneginf({x})",
]  # fmt: skip
BITS = ["~{x}", "{x} & 3", "{x} | 1", "{x} ^ 3", "{x} << 1", "{x} >> 1", "{x} & True"]

BINARY_EXACT = ["{x} + {y}", "{x} - {y}", "{x} * {y}", "torch.add({x}, {y})", "{x} * {y} + {x}"]
BINARY_ROUNDED = [
    "{x} / ({y}.square() + 1)", "torch.atan2({x}, {y}.square() + 1)", "torch.lerp({x}, {y}, 0.25)",
    "torch.hypot({x}, {y}.square() + 1)", "torch.addcmul({x}, {y}, {x}, value=0.3)", "torch.logaddexp({x}, {y})",
    "torch.add({x}, {y}, alpha=0.3)", "torch.addcdiv({x}, {y}, {y}.square() + 1)",
    "torch.xlogy({x}, {y}.square() + 1)", "({x}.square() + 1) ** {y}.sigmoid()", "torch.sub({x}, {y}, alpha=2)",
]  # fmt: skip
BINARY_KINKED = [
    "torch.maximum({x}, {y})", "torch.minimum({x}, {y})", "torch.fmax({x}, {y})", "torch.fmin({x}, {y})",
    "torch.clamp({x}, min={y})", "torch.clamp({x}, max={y})",
]  # fmt: skip
BINARY_JUMPING = [
    "{x} > {y}", "{x} <= {y}", "{x} == {y}", "{x} != {y}", "torch.logical_and({x}, {y})", "torch.logical_xor({x}, {y})",
    "torch.where({x} > {y}, {x}, {y})", "torch.remainder({x}, {y}.abs() + 1)", "{x} // ({y}.abs() + 1)",
    "torch.fmod({x}, {y}.abs() + 1)", "torch.where({x} != {y}, {x}, {n})", "torch.logical_or({x}, {y})",
]  # fmt: skip
BINARY_BITS = ["{x} & {y}", "{x} | {y}", "{x} ^ {y}"]


def unary(d: Drawing) -> None:
    conditions, expressions, keeps = d.choice(
        [
            ((), EXACT, True),
            ((), ROUNDED, False),
            ((bends,), KINKED, True),
            ((bends, floating), KINKED_AND_ROUNDED, False),
            ((exact,), JUMPING, True),
            ((bits,), BITS, True),
        ]
    )
    x = d.pick(*conditions)
    d.value(d.choice(expressions).format(x=x, n=d.choice(NUMBERS)), x, exact=keeps)


def binary(d: Drawing) -> None:
    conditions, expressions, keeps = d.choice(
        [
            ((), BINARY_EXACT, True),
            ((numeric,), BINARY_ROUNDED, False),
            ((bends,), BINARY_KINKED, True),
            ((exact,), BINARY_JUMPING, True),
            ((bits,), BINARY_BITS, True),
        ]
    )
    x = d.pick(*conditions)
    y = d.pick(*conditions, broadcasts_with(x))
    d.value(d.choice(expressions).format(x=x, y=y, n=d.choice(NUMBERS)), x, y, exact=keeps)


def masked(d: Drawing) -> None:
    x = d.pick()
    try:
        mask = by = d.pick(boolean, broadcasts_with(x))
    except NoOperand:
        by = d.pick(exact, broadcasts_with(x))
        mask = f"({by} > 0)"
    y = d.pick(broadcasts_with(x), broadcasts_with(by))
    number = d.choice(NUMBERS)
    expression, reads = d.choice(
        [
            (f"torch.where({mask}, {x}, {y})", (x, y)),
            (f"torch.where({mask}, {x}, {number})", (x,)),
            (f"torch.where({mask}, {number}, {x})", (x,)),
            (f"{x}.masked_fill({mask}, {number})", (x,)),
            (f"{x} * {mask}", (x,)),
        ]
    )
    d.value(expression, by, *reads)


def cast(d: Drawing) -> None:
    dtype = d.choice(DTYPES)
    to = getattr(torch, dtype)
    conditions = () if to.is_floating_point else (exact, castable(to))
    x = d.pick(*conditions)
    d.value(d.choice([f"{x}.to(torch.{dtype})", f"{x}.type(torch.{dtype})", f"{x}.to(torch.{dtype}, copy=True)"]), x)


def cast_and_back(d: Drawing) -> None:
    """Rounded to another type on the way: fused kernels must round there too."""
    x = d.pick(floating)
    through, back = d.choice(["bfloat16", "float16", "float64"]), d.choice(["float32", "float64", "bfloat16"])
    d.value(f"({x}.to(torch.{through}) * {d.choice(['2', '0.5', '1'])}).to(torch.{back})", x)


STEPS = [unary, unary, unary, unary, binary, binary, binary, binary, masked, cast, cast, cast_and_back]
