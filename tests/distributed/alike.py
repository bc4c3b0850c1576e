"""Compares what ranks gave."""

from typing import Any

import torch


def assert_alike(actual: Any, expected: Any, **tolerance: float) -> None:
    """Tensors within the tolerance, all else the same, in lists and dictionaries too."""
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(actual, expected, **tolerance)
    elif isinstance(expected, list):
        assert len(actual) == len(expected)
        for mine, theirs in zip(actual, expected, strict=True):
            assert_alike(mine, theirs, **tolerance)
    elif isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key, theirs in expected.items():
            assert_alike(actual[key], theirs, **tolerance)
    else:
        assert actual == expected
