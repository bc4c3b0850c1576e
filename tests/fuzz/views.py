"""Steps that give views of values, and a few that copy what could be one."""

import torch

from fuzz.drawing import Drawing, dimensions, exact, of_dtype


def transpose(d: Drawing) -> None:
    x = d.pick(dimensions(1))
    first, second = d.dimension(d.tensor(x)), d.dimension(d.tensor(x))
    d.value(
        d.choice([f"{x}.transpose({first}, {second})", f"{x}.movedim({first}, {second})", f"{x}.transpose(0, -1)"]), x
    )


def permute(d: Drawing) -> None:
    x = d.pick(dimensions(2))
    order = [*range(d.tensor(x).dim())]
    for place in order[:-1]:
        other = d.integer(place, len(order) - 1)
        order[place], order[other] = order[other], order[place]
    d.value(f"{x}.permute({', '.join(map(str, order))})", x)


def slices(d: Drawing) -> None:
    x = d.pick(dimensions(1))
    dimension = d.dimension(d.tensor(x))
    size = d.tensor(x).shape[dimension]
    start, stop, step = d.integer(0, min(size, 5)), d.integer(0, 2), d.integer(1, 3)
    part = f"{start or ''}:{-stop or ''}" + (f":{step}" if step > 1 else "")
    d.value(f"{x}[{':, ' * dimension}{part}]", x)


def select(d: Drawing) -> None:
    x = d.pick(dimensions(1))
    dimension = d.dimension(d.tensor(x))
    size = d.tensor(x).shape[dimension]
    index = d.integer(0, max(0, size - 1)) - d.choice([0, size])
    d.value(d.choice([f"{x}.select({dimension}, {index})", f"{x}[{':, ' * dimension}{index}]"]), x)


def narrow(d: Drawing) -> None:
    x = d.pick(dimensions(1))
    dimension = d.dimension(d.tensor(x))
    size = d.tensor(x).shape[dimension]
    start = d.integer(0, size)
    d.value(f"{x}.narrow({dimension}, {start}, {d.integer(0, size - start)})", x)


def expand(d: Drawing) -> None:
    x = d.pick(dimensions(0, 4))
    shape = d.tensor(x).shape
    wider = tuple(d.integer(1, 3) if size == 1 else d.choice([size, -1]) for size in shape)
    leading = d.choice([(), (2,), (3, 1)])
    d.value(f"{x}.expand({', '.join(map(str, (*leading, *wider)))})" if leading + wider else f"{x}.expand(2)", x)


def expand_as(d: Drawing) -> None:
    x, y = d.pick(), d.pick()
    d.value(d.choice([f"{x}.expand_as({y})", f"{x}.broadcast_to({y}.shape)"]), x, y)


def unsqueeze(d: Drawing) -> None:
    x = d.pick(dimensions(0, 4))
    dimension = d.integer(0, d.tensor(x).dim())
    d.value(d.choice([f"{x}.unsqueeze({dimension})", f"{x}[..., None]", f"{x}[None]"]), x)


def squeeze(d: Drawing) -> None:
    x = d.pick(dimensions(1))
    d.value(d.choice([f"{x}.squeeze()", f"{x}.squeeze({d.dimension(d.tensor(x))})"]), x)


def reshape(d: Drawing) -> None:
    x = d.pick()
    shape = tuple(d.tensor(x).shape)
    options = [(d.tensor(x).numel(),)]
    for place, size in enumerate(shape):
        for factor in (2, 3, 5):
            if size and size % factor == 0:
                options += [(*shape[:place], factor, size // factor, *shape[place + 1 :])]
                options += [(*shape[:place], size // factor, factor, *shape[place + 1 :])]
        if place:
            options.append((*shape[: place - 1], shape[place - 1] * size, *shape[place + 1 :]))
    options += [tuple(reversed(shape)), (1, *shape)]
    method = d.choice(["reshape", "view"])
    d.value(f"{x}.{method}({d.choice(options)})", x)


def flatten(d: Drawing) -> None:
    x = d.pick()
    d.value(d.choice([f"{x}.flatten()", f"{x}.reshape(-1)", f"{x}.ravel()", f"{x}.flatten(-1)"]), x)


def as_strided(d: Drawing) -> None:
    x = d.pick()
    elements = d.tensor(x).untyped_storage().nbytes() // d.tensor(x).element_size()
    offset, sizes, strides = d.integer(0, min(2, elements)), [], []
    reach = offset
    for _ in range(d.integer(1, 3)):
        stride, size = d.integer(0, 4), d.integer(1, 4)
        if reach + stride * (size - 1) < elements:
            reach += stride * (size - 1)
            sizes.append(size)
            strides.append(stride)
    if reach < elements:
        d.value(f"{x}.as_strided({tuple(sizes)}, {tuple(strides)}, {offset})", x)


def diagonal(d: Drawing) -> None:
    x = d.pick(dimensions(2))
    d.value(
        d.choice([f"{x}.diagonal()", f"{x}.diagonal({d.integer(-2, 2)}, -1, 0)", f"{x}.mT", f"{x}.mT.diagonal(1)"]), x
    )


def unfold(d: Drawing) -> None:
    x = d.pick(dimensions(1, 4))
    dimension = d.dimension(d.tensor(x))
    size = d.integer(1, max(1, min(3, d.tensor(x).shape[dimension])))
    d.value(f"{x}.unfold({dimension}, {size}, {d.integer(1, 3)})", x)


def parts(d: Drawing) -> None:
    x = d.pick(dimensions(1))
    dimension = d.dimension(d.tensor(x))
    size = d.tensor(x).shape[dimension]
    first = d.integer(0, size)
    d.value(
        d.choice(
            [
                f"{x}.split([{first}, {size - first}], {dimension})",
                f"torch.chunk({x}, 2, {dimension})",
                f"{x}.tensor_split(2, {dimension})",
            ]
        ),
        x,
        count=2,
    )


def unbind(d: Drawing) -> None:
    x = d.pick(dimensions(1))
    d.value(f"{x}.unbind({d.dimension(d.tensor(x))})[{d.choice([0, -1])}]", x)


def copies(d: Drawing) -> None:
    x = d.pick()
    options = [
        f"{x}.clone()",
        f"{x}.contiguous()",
        f"{x}.detach()",
        f"{x}.clone(memory_format=torch.contiguous_format)",
    ]
    if d.tensor(x).dim():
        options += [f"{x}.flip(0)", f"{x}.roll(1, -1)", f"{x}.repeat_interleave(2, 0)", f"{x}.fliplr()", f"{x}.rot90()"]
        options += [f"{x}.tril()", f"{x}.triu(1)", f"{x}.repeat({', '.join(['2', *['1'] * (d.tensor(x).dim() - 1)])})"]
        options += [f"F.pad({x}, (1, 0))", f"F.pad({x}, (0, 2), value=1)", f"F.pad({x}, (-1, 1))"]
    d.value(d.choice(options), x)


def bits_of(d: Drawing) -> None:
    """The same bytes as numbers of another type."""
    dtype, other = d.choice([("float32", "int32"), ("bfloat16", "int16"), ("int32", "float32"), ("float64", "int64")])
    x = d.pick(of_dtype(getattr(torch, dtype)), exact)
    if dtype == "int32":
        # Small integers are denormal floats, which arms may flush.
        d.value(f"({x} * 0 + 1065353216).view(torch.float32)", x)
    else:
        d.value(f"{x}.view(torch.{other})", x)


STEPS = [
    transpose, permute, slices, slices, select, narrow, expand, expand_as, unsqueeze, squeeze, reshape, reshape,
    flatten, as_strided, as_strided, diagonal, unfold, parts, parts, unbind, copies, copies, copies, bits_of,
]  # fmt: skip
