"""Steps that make one number of many, and those that work along a dimension."""

import torch

from fuzz.drawing import (
    Drawing,
    bends,
    bits,
    coarse,
    dimensions,
    exact,
    floating,
    integral,
    multipliable,
    not_empty,
    numeric,
)


def over(d: Drawing, tensor: torch.Tensor, several: bool = True) -> str:
    """Arguments of a reduction: all dimensions, one, or some, kept or not."""
    if not tensor.dim() or d.chance(4):
        return ""
    dimension = d.dimension(tensor)
    text = str(dimension - d.choice([0, tensor.dim()]))
    if several and tensor.dim() > 1 and d.chance(3):
        others = [other for other in range(tensor.dim()) if other != dimension]
        text = f"({text}, {d.choice(others)})"
    return text + d.choice(["", ", keepdim=True"])


def inner(*arguments: str) -> str:
    return ", ".join(filter(None, arguments))


def total(d: Drawing) -> None:
    x = d.pick()
    keeps = coarse(d, x)
    dtype = d.choice(["", "", "", "dtype=torch.float64", "dtype=torch.float32"])
    if d.tensor(x).dtype == torch.float64 and dtype.endswith("float32"):
        dtype = ""
    d.value(f"{x}.sum({inner(over(d, d.tensor(x)), dtype)})", x, exact=keeps)


def mean(d: Drawing) -> None:
    x = d.pick(floating)
    d.value(f"{x}.{d.choice(['mean', 'nansum', 'nanmean'])}({over(d, d.tensor(x))})", x, exact=False)


def extreme(d: Drawing) -> None:
    x = d.pick(bends, not_empty)
    d.value(f"{x}.{d.choice(['amax', 'amin'])}({over(d, d.tensor(x))})", x)


def product(d: Drawing) -> None:
    x = d.pick(numeric, multipliable)
    dimension = over(d, d.tensor(x), several=False)
    if not dimension and not multipliable(d, x, whole=True):
        dimension = "0"
    d.value(f"{x}.prod({dimension})", x, exact=integral(d, x))


def variance(d: Drawing) -> None:
    x = d.pick(floating, not_empty)
    correction = f"correction={d.integer(0, 1)}"
    if d.chance(4):
        d.value(f"torch.var_mean({inner(x, over(d, d.tensor(x)), correction)})", x, exact=False, count=2)
    else:
        d.value(f"{x}.var({inner(over(d, d.tensor(x)), correction)})", x, exact=False)


def truth(d: Drawing) -> None:
    x = d.pick(exact)
    name = d.choice(["any", "all"])
    d.value(f"{x}.{name}({over(d, d.tensor(x))})", x)


def count(d: Drawing) -> None:
    x = d.pick(exact)
    d.value(d.choice([f"torch.count_nonzero({x})", f"({x} > 0).sum({over(d, d.tensor(x))})"]), x)


def place(d: Drawing) -> None:
    x = d.pick(exact, not_empty, numeric)
    name = d.choice(["argmax", "argmin"])
    d.value(f"{x}.{name}({over(d, d.tensor(x), several=False)})", x)


def extreme_and_place(d: Drawing) -> None:
    x = d.pick(exact, not_empty, dimensions(1))
    dimension = d.dimension(d.tensor(x))
    keep = d.choice(["", "keepdim=True"])
    d.value(
        d.choice(
            [
                f"{x}.max({inner(str(dimension), keep)})",
                f"{x}.min({inner(str(dimension), keep)})",
                f"{x}.sort({dimension}, stable=True)",
                f"torch.sort({x}, dim={dimension}, descending=True, stable=True)",
                f"{x}.cummax({dimension})",
            ]
        ),
        x,
        count=2,
    )


def order(d: Drawing) -> None:
    x = d.pick(exact, not_empty, dimensions(1))
    dimension = d.dimension(d.tensor(x))
    options = [
        f"{x}.argsort({dimension}, stable=True)",
        f"torch.searchsorted(torch.arange(4.0, device={x}.device), {x}.contiguous().float())",
        f"torch.bucketize({x}, torch.arange(-1.0, 3, device={x}.device))",
    ]
    if not d.tensor(x).requires_grad:
        # Which of equal elements they take is not defined, and the gradient would go there. Of what is expanded,
        # PyTorch's own CPU kernels give numbers from elsewhere in memory.
        options += [f"{x}.contiguous().{name}({dimension}).values" for name in ("median", "nanmedian")]
        options += [f"{x}.contiguous().{name}(1, {dimension}).values" for name in ("topk", "kthvalue")]
    d.value(d.choice(options), x)


def running(d: Drawing) -> None:
    x = d.pick(dimensions(1))
    keeps = coarse(d, x)
    dimension = d.dimension(d.tensor(x))
    if multipliable(d, x) and d.chance(5):
        d.value(f"{x}.cumprod({dimension})", x, exact=bits(d, x))
    elif d.chance(5):
        d.value(f"{x}.logcumsumexp({dimension})", x, exact=False)
    else:
        d.value(f"{x}.cumsum({dimension})", x, exact=keeps)


def shares(d: Drawing) -> None:
    x = d.pick(floating, dimensions(1))
    dimension = d.dimension(d.tensor(x)) - d.choice([d.tensor(x).dim(), 0])
    d.value(
        d.choice(
            [
                f"{x}.softmax({dimension})",
                f"F.log_softmax({x}, {dimension})",
                f"{x}.logsumexp({dimension})",
                f"{x}.logsumexp({dimension}, keepdim=True)",
                f"{x} - {x}.mean({dimension}, keepdim=True)",
                f"F.layer_norm({x}, {x}.shape[-1:])",
                f"F.softmin({x}, {dimension})",
            ]
        ),
        x,
        exact=False,
    )


def norm(d: Drawing) -> None:
    x = d.pick(floating, bends)
    power = d.choice(["1", "2", "3", "float('inf')"]) if d.tensor(x).numel() else "2"
    dims = over(d, d.tensor(x))
    d.value(f"torch.linalg.vector_norm({inner(x, power, dims)})", x, exact=False)


STEPS = [
    total, total, total, mean, extreme, product, variance, truth, count, place, extreme_and_place, order, running,
    running, shares, shares, norm,
]  # fmt: skip
