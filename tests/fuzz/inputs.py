"""The numbers that programs start from. Printed programs contain this function."""

import torch


def numbers(seed: int, shape: tuple[int, ...], dtype: torch.dtype, special: tuple[float, ...] = ()) -> torch.Tensor:
    """Multiples of a half from -4 to 4. Sums and products of a few are exact, in whichever order they are made."""
    steps = torch.randint(-8, 9, shape, generator=torch.Generator().manual_seed(seed))
    if dtype == torch.bool:
        return steps > 0
    if dtype == torch.uint8:
        return (steps + 8).to(dtype)
    if not dtype.is_floating_point:
        return steps.to(dtype)
    values = steps / 2
    for place, value in enumerate(special[: values.numel()]):
        values.view(-1)[place * 5 % values.numel()] = value
    return values.to(dtype)
