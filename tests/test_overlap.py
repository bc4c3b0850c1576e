"""What is written where it is read, or more than once: what the CPU does, this device does, and refuses the rest."""

import pytest
import torch
from torch.nn import functional as F


def on_both(change, *shape):
    """What `change` leaves of a tensor, or the type of what it raises, on the CPU and here."""
    found = []
    for device in ("cpu", "rustorch"):
        tensor = torch.arange(float(torch.Size(shape).numel()), device=device).view(shape)
        try:
            change(tensor)
        except Exception as error:
            found.append(type(error))
        else:
            found.append(tensor.cpu().tolist())
    return found


PARTS = {
    "a row": lambda x: x.__setitem__(slice(None), x[1]),
    "a column": lambda x: x.__setitem__(slice(None), x[:, 2:3]),
    "a number": lambda x: x.__setitem__(slice(None), x[1, 2]),
    "a number by a mask": lambda x: x.__setitem__(x > 4, x[1, 3]),
    "a number by a mask of rows": lambda x: x.__setitem__(x[:, 0] > 3, x[0, 1]),
    "itself": lambda x: x.copy_(x),
    "a fill": lambda x: x.fill_(x[1, 1]),
    "rows one on": lambda x: x[1:].copy_(x[:-1]),
    "its transpose": lambda x: x[:, :3].copy_(x[:, :3].t()),
    "a sum of rows one on": lambda x: x[1:].add_(x[:-1]),
    "rows by numbers": lambda x: x.__setitem__(torch.tensor([0, 2], device=x.device), x[:2]),
    "out over its input": lambda x: torch.exp(x[:-1], out=x[1:]),
}


@pytest.mark.parametrize("change", PARTS.values(), ids=PARTS)
def test_parts_of_itself(change):
    expected, actual = on_both(change, 3, 4)
    assert actual == expected


EXPANDED = {
    "fill_": lambda x: x.fill_(2),
    "zero_": lambda x: x.zero_(),
    "threshold_": lambda x: F.threshold(x, 0.5, 7.0, inplace=True),
    "full": lambda x: torch.full(x.shape, 3.0, out=x),
    "a row": lambda x: x.__setitem__(0, 5.0),
    "a list is zeroed": lambda x: torch._foreach_zero_([x, torch.ones(2, device=x.device)]),
    "masked_fill_": lambda x: x.masked_fill_(torch.arange(12, device=x.device).view(3, 4) % 5 == 1, 9.0),
    "index_fill_": lambda x: x.index_fill_(1, torch.tensor([2], device=x.device), 9.0),
    "a number by places": lambda x: x.__setitem__(torch.tensor([2, 0], device=x.device), 4.0),
    "numbers by places": lambda x: x.index_put_(
        (torch.tensor([2], device=x.device),), torch.arange(4, device=x.device).to(x.dtype)
    ),
    "a number by a mask": lambda x: x.__setitem__(x > 0.5, 4.0),
    "added": lambda x: x.index_put_(
        (torch.tensor([1, 1], device=x.device),), torch.ones((), device=x.device, dtype=x.dtype), accumulate=True
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Use of .* on expanded tensors is deprecated")
@pytest.mark.parametrize("change", EXPANDED.values(), ids=EXPANDED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bfloat16], ids=str)
def test_expanded_tensors_that_the_cpu_writes(change, dtype):
    results = []
    for device in ("cpu", "rustorch"):
        base = torch.tensor([[0.0], [1.0], [2.0]], device=device).to(dtype)
        change(base.expand(3, 4))
        results.append(base.cpu())
    assert torch.equal(*results)


@pytest.mark.parametrize(
    "change", [lambda x: x.add_(1), lambda x: x.copy_(torch.zeros(3, 4)), lambda x: x.exp_(), lambda x: x.uniform_()]
)
def test_other_expanded_tensors_are_refused(change):
    for device in ("cpu", "rustorch"):
        with pytest.raises(RuntimeError, match="unsupported operation"):
            change(torch.ones(3, 1, device=device).expand(3, 4))
