"""Steps that read elements by index or by mask."""

from fuzz.drawing import Drawing, NoOperand, boolean, coarse, dimensions, exact, expands_to, integral, numeric


def indices(
    d: Drawing, x: str, dimension: int, unique: bool = False, flat: bool = False
) -> tuple[str, tuple[str, ...]]:
    """An expression for indices into a dimension of `x`, and the values that it reads."""
    size = d.tensor(x).shape[dimension] if d.tensor(x).dim() else 1
    if not size:
        raise NoOperand
    if not unique and d.chance(3):
        index = d.pick(integral, dimensions(1, 1) if flat else dimensions(0, 3))
        return f"{index}.long() % {size}", (index,)
    if unique:
        chosen = [place for place in range(min(size, 8)) if d.chance(2)] or [0]
        if d.chance(2):
            chosen.reverse()
    else:
        chosen = [d.integer(0, size - 1) for _ in range(d.integer(1, 5))]
    shown = [place - size if d.chance(6) and not flat else place for place in chosen]
    nested = not flat and not unique and len(shown) == 4 and d.chance(2)
    return f"torch.tensor({[shown[:2], shown[2:]] if nested else shown}, device={x}.device)", ()


def mask_of(d: Drawing, x: str) -> tuple[str, tuple[str, ...]]:
    """An expression for a mask of the shape of `x`, or of its first dimensions."""
    shape = d.tensor(x).shape
    leading = d.integer(0, len(shape)) if d.chance(3) else len(shape)
    if d.chance(2):
        mask = d.pick(boolean, lambda drawing, name: drawing.tensor(name).shape == shape[:leading])
        return mask, (mask,)
    y = d.pick(exact, numeric, lambda drawing, name: drawing.tensor(name).shape == shape[:leading])
    return f"{y} {d.choice(['>', '<', '=='])} {d.choice(['0', '1', '-1', '100'])}", (y,)


def by_index(d: Drawing) -> None:
    x = d.pick(dimensions(1))
    dimension = d.dimension(d.tensor(x))
    index, reads = indices(d, x, dimension)
    d.value(f"{x}[{':, ' * dimension}{index}]", x, *reads)


def by_two_indices(d: Drawing) -> None:
    x = d.pick(dimensions(2))
    first, reads = indices(d, x, 0)
    second, more = indices(d, x, d.tensor(x).dim() - 1)
    d.value(
        d.choice([f"{x}[{first}, ..., {second}]", f"{x}[{first}][..., {second}]", f"{x}[{first}, 0]"]), x, *reads, *more
    )


def by_mask(d: Drawing) -> None:
    x = d.pick()
    mask, reads = mask_of(d, x)
    d.value(f"{x}[{mask}]", x, *reads)


def counted_by_values(d: Drawing) -> None:
    """Results whose size depends on values."""
    x = d.pick(exact)
    mask, reads = mask_of(d, x)
    d.value(
        d.choice(
            [
                f"torch.masked_select({x}, {mask})",
                f"torch.nonzero({x})",
                f"torch.where({mask})[0]",
                f"{x}[{mask}].sum()",
                f"torch.nonzero({mask}) * 2",
                f"torch.unique({x})",
            ]
        ),
        x,
        *reads,
        exact=coarse(d, x),
    )


def number_of_values(d: Drawing) -> None:
    """A number that values decide goes into the graph."""
    x, y = d.pick(), d.pick(coarse)
    d.value(d.choice([f"{x} * {y}.sum().item()", f"{x} + {y}.sum().item()", f"{x} + ({y} > 0).sum().item()"]), x, y)


def selected(d: Drawing) -> None:
    x = d.pick(dimensions(1))
    dimension = d.dimension(d.tensor(x))
    index, reads = indices(d, x, dimension, flat=True)
    d.value(f"{x}.index_select({dimension}, {index})", x, *reads)


def gathered(d: Drawing) -> None:
    x = d.pick(dimensions(1))
    dimension = d.dimension(d.tensor(x))
    size = d.tensor(x).shape[dimension]
    if not size:
        raise NoOperand
    index = d.pick(integral, lambda drawing, name: drawing.tensor(name).dim() == drawing.tensor(x).dim())
    method = d.choice(["{x}.gather({k}, {i})", "torch.take_along_dim({x}, {i}, {k})"])
    d.value(method.format(x=x, k=dimension, i=f"{index}.long() % {size}"), x, index)


def taken(d: Drawing) -> None:
    x = d.pick()
    if not d.tensor(x).numel():
        raise NoOperand
    index = d.pick(integral)
    d.value(f"{x}.take({index}.long() % {d.tensor(x).numel()})", x, index)


def embedded(d: Drawing) -> None:
    x = d.pick(dimensions(2, 2))
    index, reads = indices(d, x, 0, flat=True)
    d.value(f"F.embedding({index}, {x})", x, *reads)


def scattered(d: Drawing) -> None:
    """Written by index into a copy. Only additions may write to one place twice, as the order is not defined."""
    x = d.pick(dimensions(1))
    tensor = d.tensor(x)
    dimension = d.dimension(tensor)
    y = d.pick(expands_to(tensor.shape), lambda drawing, name: drawing.tensor(name).dtype == tensor.dtype)
    keeps = coarse(d, x) and coarse(d, y)
    size = tensor.shape[dimension]
    if not size:
        raise NoOperand
    shape = [size if place == dimension else 1 for place in range(tensor.dim())]
    every = f"torch.arange({size}, device={x}.device).flip(0).view({tuple(shape)}).expand_as({x})"
    some, reads = indices(d, x, dimension, unique=True)
    rows = f"{y}.expand_as({x}).index_select({dimension}, {some})"
    repeated, more = indices(d, x, dimension, flat=True)
    rows_again = f"{y}.expand_as({x}).index_select({dimension}, {repeated})"
    expression, keeps, read = d.choice(
        [
            (f"{x}.scatter({dimension}, {every}, {y}.expand_as({x}))", True, (y,)),
            (f"{x}.scatter({dimension}, {every}, 2)", True, ()),
            (f"{x}.scatter_add({dimension}, {every} // 2, {y}.expand_as({x}))", keeps, (y,)),
            (f"{x}.index_copy({dimension}, {some}, {rows})", True, (y, *reads)),
            (f"{x}.index_fill({dimension}, {some}, 3)", True, reads),
            (f"{x}.index_add({dimension}, {repeated}, {rows_again})", keeps, (y, *more)),
            (f"{x}.index_put(({some},), {x}.flip(0)[{some}])", True, reads)
            if not dimension
            else (f"{x} + 1", True, ()),
            (f"torch.select_scatter({x}, {y}.expand_as({x}).select({dimension}, 0), {dimension}, -1)", True, (y,)),
            (f"torch.slice_scatter({x}, {y}.expand_as({x}).narrow({dimension}, 0, 1), {dimension}, 0, 1)", True, (y,)),
        ]
    )
    d.value(expression, x, *read, exact=keeps)


def masked_scatter(d: Drawing) -> None:
    x = d.pick()
    mask, reads = mask_of(d, x)
    tensor = d.tensor(x)
    y = d.pick(lambda drawing, name: drawing.tensor(name).dtype == tensor.dtype)
    d.value(f"{x}.masked_scatter({mask}, {y})", x, y, *reads)


def one_hot(d: Drawing) -> None:
    index = d.pick(integral)
    d.value(
        d.choice([f"F.one_hot({index}.long() % 4, 4)", f"torch.bincount({index}.flatten().long() % 4, minlength=5)"]),
        index,
    )


STEPS = [
    by_index, by_index, by_two_indices, by_mask, by_mask, counted_by_values, number_of_values, selected, gathered,
    taken, embedded, scattered, scattered, masked_scatter, one_hot,
]  # fmt: skip
