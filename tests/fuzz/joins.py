"""Steps that join values (products, `cat`), make them of nothing, call ops of a user's own, or use complex numbers."""

import torch

from fuzz.drawing import Drawing, coarse, dimensions, floating, numeric, single_or_double


def alike(x: str, d: Drawing) -> str:
    """A value of the same dtype and shape."""
    tensor = d.tensor(x)
    return d.pick(
        lambda drawing, name: (drawing.tensor(name).dtype, drawing.tensor(name).shape) == (tensor.dtype, tensor.shape)
    )


def joined(d: Drawing) -> None:
    x = d.pick(dimensions(1))
    dimension = d.dimension(d.tensor(x))
    fitting = tuple(d.tensor(x).shape[:dimension] + d.tensor(x).shape[dimension + 1 :])

    def fits(drawing: Drawing, name: str) -> bool:
        shape = drawing.tensor(name).shape
        return len(shape) == len(fitting) + 1 and tuple(shape[:dimension] + shape[dimension + 1 :]) == fitting

    y, z = d.pick(fits), d.pick(fits)
    d.value(d.choice([f"torch.cat([{x}, {y}], {dimension})", f"torch.cat([{x}, {y}, {z}], {dimension})"]), x, y, z)


def stacked(d: Drawing) -> None:
    x = d.pick(dimensions(0, 4))
    y = alike(x, d)
    d.value(
        d.choice([f"torch.stack([{x}, {y}])", f"torch.stack([{x}, {y}], -1)", f"torch.stack([{x}, {x}, {y}], 0)"]), x, y
    )


def product(d: Drawing) -> None:
    x = d.pick(numeric, dimensions(1, 4))
    tensor = d.tensor(x)
    columns = tensor.shape[-1]

    def fits(drawing: Drawing, name: str) -> bool:
        other = drawing.tensor(name)
        return (
            other.dtype == tensor.dtype
            and other.dim() <= 3
            and other.dim() > 0
            and other.shape[-min(2, other.dim())] == columns
        )

    if tensor.dim() > 1 and d.chance(3):
        expression, reads = d.choice([f"{x} @ {x}.mT", f"{x}.mT @ {x}"]), (x,)
    else:
        y = d.pick(fits)
        expression, reads = d.choice([f"{x} @ {y}", f"torch.matmul({x}, {y})"]), (x, y)
    # Products of half types may round what was already rounded.
    exact = all(coarse(d, name) and d.tensor(name).dtype.itemsize > 2 for name in reads)
    d.value(expression, *reads, exact=exact)


def batched(d: Drawing) -> None:
    x = d.pick(floating, dimensions(2, 3))
    y = alike(x, d)
    three = d.tensor(x).dim() == 3
    d.value(
        d.choice(
            [
                f"torch.bmm({x}, {y}.mT)",
                f"torch.baddbmm({x} @ {y}.mT, {x}, {y}.mT, beta=0.5)",
                f"torch.einsum('bij,bkj->bik', {x}, {y})",
            ]
        )
        if three
        else d.choice(
            [
                f"torch.mm({x}, {y}.t())",
                f"torch.addmm({x} @ {y}.t(), {x}, {y}.t(), alpha=2)",
                f"torch.einsum('ij,kj->ki', {x}, {y})",
            ]
        ),
        x,
        y,
        exact=False,
    )


def linear(d: Drawing) -> None:
    x, weight = d.pick(floating, dimensions(1)), None
    tensor = d.tensor(x)
    weight = d.pick(
        dimensions(2, 2),
        lambda drawing, name: (
            drawing.tensor(name).dtype == tensor.dtype and drawing.tensor(name).shape[1] == tensor.shape[-1]
        ),
    )
    d.value(
        d.choice(
            [f"F.linear({x}, {weight})", f"F.linear({x}, {weight}, {weight}[:, 0])", f"F.linear({x}, {weight}).tanh()"]
        ),
        x,
        weight,
        exact=False,
    )


def made(d: Drawing) -> None:
    x = d.pick()
    size = d.integer(0, 5)
    d.value(
        d.choice(
            [
                f"torch.arange({size}, device={x}.device)",
                f"torch.ones({size}, device={x}.device)",
                f"torch.full((2, {size}), 1.5, device={x}.device)",
                f"{x}.new_zeros({size})",
                f"torch.tensor([1.0, nan, -2.0], device={x}.device)",
                f"torch.zeros_like({x})",
                f"torch.eye({size}, device={x}.device)",
                f"torch.tensor(2.5, device={x}.device)",
                f"torch.empty(({size}, 3), device={x}.device).fill_(2)",
                f"{x}.new_full((), 3)",
            ]
        ),
        x,
    )


def through_an_op_of_ones_own(d: Drawing) -> None:
    x = d.pick(numeric, lambda drawing, name: drawing.tensor(name).dtype != torch.bfloat16)
    d.value(d.choice([f"torch.ops.fuzz.through_numpy({x})", f"torch.ops.fuzz.of_run({x})"]), x)


def made_complex(d: Drawing) -> None:
    x = d.pick(single_or_double)
    if d.chance(3):
        other = alike(x, d)
        d.value(f"torch.complex({x}, {other})", x, other)
        return
    options = [f"torch.complex({x}, {x} + 1)", f"{x} * 1j"]
    if d.tensor(x).dim() and d.tensor(x).shape[-1] == 2:
        options.append(f"torch.view_as_complex({x}.contiguous())")
    d.value(d.choice(options), x)


def of_complex(d: Drawing) -> None:
    if not any(d.tensor(name).is_complex() for name in d.names):
        made_complex(d)
    z = d.pick(complex_numbers=True)
    expression, keeps = d.choice(
        [
            ("{z}.conj()", True),
            ("{z}.real", True),
            ("{z}.imag", True),
            ("{z}.conj().imag", True),
            ("{z} + 1", True),
            ("{z} * 2", True),
            ("{z} * {z}.conj()", False),
            ("{z}.sum()", False),
            ("torch.view_as_real({z}.resolve_conj())", True),
            ("{z}.resolve_conj() * 1", True),
            ("({z}.square().abs() + 1).log()", False),
            ("{z}.conj().reshape(-1)", True),
            ("{z}.conj().clone()", True),
            ("-{z}.conj()", True),
        ]
    )
    d.value(expression.format(z=z), z, exact=keeps)


STEPS = [
    joined, joined, stacked, product, product, batched, linear, made, made, through_an_op_of_ones_own,
    through_an_op_of_ones_own,
]  # fmt: skip
COMPLEX_STEPS = [made_complex, of_complex, of_complex, of_complex]
