"""How near an op's numbers must be: PyTorch's own tolerances, its database's overrides, and the terms of sums."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.testing._internal.common_device_type import toleranceOverride

Tolerance = tuple[float, float]

#: (rtol, atol) by dtype, of `torch.testing.assert_close`. Other dtypes are exact.
PLAIN: dict[torch.dtype, Tolerance] = {
    torch.float64: (1e-7, 1e-7),
    torch.float32: (1.3e-6, 1e-5),
    torch.float16: (1e-3, 1e-5),
    torch.bfloat16: (1.6e-2, 1e-5),
    torch.complex128: (1e-7, 1e-7),
    torch.complex64: (1.3e-6, 1e-5),
    torch.complex32: (1e-3, 1e-5),
}

#: Ops whose results, and gradients, are sums of products of their operands, or of these themselves. The terms of a
#: sum may cancel: it is as exact as they are, and not as it is.
SUMS = (
    "mm",
    "mv",
    "*matmul*",
    "bmm",
    "add*mm",
    "baddbmm",
    "add*mv",
    "addr",
    "dot",
    "*cross",
    "vdot",
    "inner",
    "tensordot",
    "einsum",
    "linalg.multi_dot",
    "linalg.matrix_power",
    "linalg.vecdot",
    "matrix_exp",
    "nn.functional.linear",
    "nn.functional.linear_cross_entropy*",
    "nn.functional.bilinear",
    "nn.functional.conv*",
    "nn.functional.*attention*",
    "torch.ops.aten.*attention*",
    "cdist",
    "*sum",
    "*mean",
    "*sum_to_size",
    "trace",
    "trapz",
    "trapezoid",
    "cumulative_trapezoid",
)


@dataclass(frozen=True)
class Precision:
    """What an op's numbers may be off by.

    Attributes:
        overrides: what the database allows the op beyond `PLAIN`.
        least: no number is asked to be nearer than this.
        sums: the result may be off by the tolerance's share of its terms' magnitude.
    """

    overrides: Mapping[torch.dtype, Tolerance] = field(default_factory=dict)
    least: Tolerance = (0.0, 0.0)
    sums: bool = False

    def tolerance(self, dtype: torch.dtype) -> Tolerance:
        """(rtol, atol) of a result."""
        if dtype not in PLAIN:
            return (0.0, 0.0)
        given = (PLAIN[dtype], self.overrides.get(dtype, (0.0, 0.0)), self.least)
        return max(rtol for rtol, _ in given), max(atol for _, atol in given)


def precision_of(entry: Any) -> Precision:
    """What an entry of a database may be off by: an op, or a module."""
    overrides: dict[torch.dtype, Tolerance] = {}
    for info in entry.decorators or ():
        # What is said of every comparison on the CPU: one test alone compares with NumPy, or without strides.
        where = [getattr(info, name, None) for name in ("cls_name", "test_name", "device_type")]
        if where[0] not in (None, "TestCommon", "TestModule") or where[1] is not None or where[2] not in (None, "cpu"):
            continue
        for decorator in getattr(info, "decorators", [info]):
            if isinstance(decorator, toleranceOverride):
                for dtype, (atol, rtol) in decorator.d.items():
                    known = overrides.get(dtype, (0.0, 0.0))
                    overrides[dtype] = (max(known[0], rtol), max(known[1], atol))
    return Precision(overrides, sums=any(fnmatch.fnmatch(entry.name, pattern) for pattern in SUMS))
