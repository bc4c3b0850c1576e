"""Steps that write: to intermediates, to views of them, and to inputs."""

from fuzz.drawing import (
    Drawing,
    NoOperand,
    apart_from,
    bends,
    coarse,
    dimensions,
    exact,
    expands_to,
    floating,
    numeric,
    writable,
)
from fuzz.indexing import indices, mask_of
from fuzz.pointwise import NUMBERS


def target(d: Drawing) -> tuple[str, str]:
    """A value that may be written, and an expression for it or for a view of it."""
    x = d.pick(writable)
    tensor = d.tensor(x)
    views = [x, x]
    if tensor.dim():
        views += [f"{x}[1:]", f"{x}[::2]", f"{x}.transpose(0, -1)", f"{x}[..., -1:]", f"{x}.unsqueeze(0)"]
        views += [f"{x}.view(-1)", f"{x}.view(-1)[::3]", f"{x}.narrow(-1, 0, 1)", f"{x}.detach()"]
        if tensor.numel():
            views += [f"{x}[0]", f"{x}.select(-1, 0)", f"{x}[..., -1]"]
    if tensor.dim() > 1:
        views += [f"{x}.diagonal()", f"{x}.T[1:]" if tensor.dim() == 2 else f"{x}.mT", f"{x}.chunk(2)[0]"]
    view = d.choice(views)
    d.evaluate(view)
    return x, view


def operand(d: Drawing, x: str, view: str) -> tuple[str, str]:
    """A value that shares no memory with `x`, and an expression for what of it has the view's shape, or one number."""
    try:
        y = d.pick(apart_from(x), expands_to(d.evaluate(view).shape))
        return y, y
    except NoOperand:
        y = d.pick(coarse)
        return y, f"{y}.sum()"


def arithmetic(d: Drawing) -> None:
    x, view = target(d)
    name, y = operand(d, x, view)
    cast = d.choice(["", f".to({x}.dtype)"])
    method, keeps = d.choice(
        [
            ("{v}.add_({y})", True),
            ("{v}.mul_({y})", True),
            ("{v}.copy_({y})", True),
            ("{v}.sub_({y})", True),
            ("{v}.lerp_({y}, 0.3)", False),
            ("{v}.addcmul_({y}, {y}, value=0.3)", False),
            ("torch.add({y}, 1, out={v})", True),
        ]
    )
    d.write(method.format(v=view, y=y + cast), x, name, exact=keeps)


def by_a_number(d: Drawing) -> None:
    x, view = target(d)
    methods = [
        "{v}.add_({n})", "{v}.mul_({n})", "{v}.fill_({n})", "{v}.zero_()", "{v}.div_(2)", "{v}.neg_()",
        "{v}.square_()", "{v}.copy_({v} * 2)", "{v}.add_({v})", "{v}.mul_({v})", "torch._foreach_add_([{v}], {n})",
    ]  # fmt: skip
    if view == x or view.endswith("]"):
        methods += ["{v} += {n}", "{v} *= {n}", "{v} = {n}" if view != x else "{v} -= {n}"]
    d.write(d.choice(methods).format(v=view, n=d.choice(NUMBERS)), x, exact=True)


def by_a_function(d: Drawing) -> None:
    x, view = target(d)
    if bends(d, x) and d.chance(2):
        kinked = ["{v}.relu_()", "{v}.clamp_(-1, 2)", "{v}.clamp_(min=0.5)", "{v}.abs_()", "F.relu({v}, inplace=True)"]
        d.write(d.choice(kinked).format(v=view), x)
    elif floating(d, x):
        rounded = ["{v}.sigmoid_()", "{v}.tanh_()", "{v}.div_(3)", "{v}.copy_({v}.exp())", "F.elu({v}, inplace=True)"]
        if bends(d, x):
            d.write(d.choice(rounded).format(v=view), x, exact=False)


def masked(d: Drawing) -> None:
    x = d.pick(writable)
    mask, reads = mask_of(d, x)
    number = d.choice(NUMBERS)
    kind = d.integer(0, 5)
    if kind == 0:
        d.write(f"{x}[{mask}] = {number}", x, *reads)
    elif kind == 1:
        d.write(f"{x}.masked_fill_({mask}, {number})", x, *reads)
    elif kind == 2:
        d.write(f"{x}[{mask}] += {number}", x, *reads)
    elif kind == 3:
        y = d.pick(coarse, apart_from(x))
        d.write(f"{x}[{mask}] = {y}.sum().to({x}.dtype)", x, y, *reads)
    elif kind == 4:
        shape = d.tensor(x).shape[d.evaluate(mask).dim() :]
        y = d.pick(apart_from(x), expands_to(shape))
        d.write(f"{x}[{mask}] = {y}.to({x}.dtype)", x, y, *reads)
    else:
        y = d.pick(apart_from(x), lambda drawing, name: drawing.tensor(name).shape == drawing.tensor(x).shape)
        cast = d.choice(["", f".to({x}.dtype)"])
        d.write(f"{x}[{mask}] = {y}[{mask}]{cast}", x, y, *reads)


def indexed(d: Drawing) -> None:
    x = d.pick(writable, dimensions(1))
    tensor = d.tensor(x)
    dimension = d.dimension(tensor)
    number = d.choice(NUMBERS)
    some, reads = indices(d, x, dimension, unique=True)
    repeated, more = indices(d, x, dimension, flat=True)
    place = f"{x}[{':, ' * dimension}{some}]"
    kind = d.integer(0, 5)
    if kind == 0:
        d.write(f"{place} = {number}", x, *reads)
    elif kind == 1:
        d.write(f"{place} += {number}", x, *reads)
    elif kind == 2:
        y = d.pick(apart_from(x), expands_to(d.evaluate(place).shape))
        d.write(f"{place} = {y}.to({x}.dtype)", x, y, *reads)
    elif kind == 3:
        # Additions may write to one place twice.
        keeps = coarse(d, x)
        d.write(f"{x}.index_put_(({repeated},), torch.ones((), dtype={x}.dtype, device={x}.device), accumulate=True)",
                x, *more, exact=keeps)  # fmt: skip
    elif kind == 4:
        d.write(f"{x}.index_fill_({dimension}, {some}, {number})", x, *reads)
    else:
        y = d.pick(apart_from(x), lambda drawing, name: drawing.tensor(name).shape == tensor.shape)
        keeps = coarse(d, x) and coarse(d, y)
        rows = f"{y}.to({x}.dtype).index_select({dimension}, {repeated})"
        d.write(f"{x}.index_add_({dimension}, {repeated}, {rows})", x, y, *more, exact=keeps)


def reshaped_in_place(d: Drawing) -> None:
    """The shape that a tensor has is changed, not its numbers."""
    x = d.pick(dimensions(1, 4), lambda drawing, name: name not in drawing.given)
    d.write(d.choice([f"{x}.unsqueeze_(0)", f"{x}.transpose_(0, -1)", f"{x}.squeeze_()"]), x)


def written_by_an_op_of_ones_own(d: Drawing) -> None:
    x = d.pick(writable, numeric, lambda drawing, name: not drawing.tensor(name).requires_grad)
    d.write(f"torch.ops.fuzz.double_({x})", x)


def running(d: Drawing) -> None:
    x = d.pick(writable, dimensions(1), exact)
    keeps = coarse(d, x)
    d.write(
        d.choice([f"{x}.cumsum_(0)", f"{x}.tril_()", f"{x}.copy_({x}.flip(0))", f"{x}.cumsum_(-1)"]), x, exact=keeps
    )


STEPS = [
    arithmetic, arithmetic, arithmetic, by_a_number, by_a_number, by_a_function, masked, masked, indexed, indexed,
    reshaped_in_place, written_by_an_op_of_ones_own, running,
]  # fmt: skip
