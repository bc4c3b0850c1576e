"""What the machine can do at most: an FMA loop on all threads, and a stream copy, both of the kernels crate.

The copy is of memory: what stays in a cache can have a share above 1.
"""

from dataclasses import replace

from rustorch_device import _C
from rustorch_device.profiler import Roofline

from .harness import Result, threads


def measured(counts: list[int]) -> dict[int, Roofline]:
    """The roof with each number of threads."""
    roofs = {}
    # It is measured anew where the number is another than before: so of two at least.
    for count in dict.fromkeys([*counts, 1, 2]):
        with threads(count):
            roofs[count] = Roofline(*_C.roofline())
    return {count: roofs[count] for count in counts}


def higher(one: dict[int, Roofline], other: dict[int, Roofline]) -> dict[int, Roofline]:
    """The best of both: what disturbs a measurement makes it lower, never higher."""
    return {
        count: Roofline(max(one[count].flops, other[count].flops), max(one[count].bytes, other[count].bytes))
        for count in one
    }


def with_share(result: Result, roofs: dict[int, Roofline]) -> Result:
    """The result with its share: the least time that its FLOPs and its bytes need under the roof, by its time."""
    roof = roofs[result.threads]
    least = max(result.flops / roof.flops, result.bytes / roof.bytes)
    return replace(result, share=least * 1e6 / result.best_us if least and result.best_us > 0 else None)
