"""What `torch.compile(..., backend="rust_backend")` may be given beside a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch._dynamo.exc import ShortenTraceback


class OptionError(ShortenTraceback, ValueError):
    """An option that `rust_backend` cannot take. Dynamo lets an exception of its own kind through as it is; others it
    wraps, and nobody would catch them as a ValueError."""

    def __init__(self, message: str) -> None:
        super().__init__(message, first_useful_frame=None)


#: The modes of `torch.compile`. They choose among Inductor's ways to generate code, of which there is one here: they
#: are accepted, so that a program need not change with its backend, and do nothing.
MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", "lite")


@dataclass(frozen=True)
class Options:
    """The options of `rust_backend`.

    Attributes:
        cache: keeps graphs in PyTorch's cache of compiled graphs (`_artifact.py`).
        keep_weights: keeps, in inference, what is made of weights alone (`weights.py`).
    """

    cache: bool = False
    keep_weights: bool = False

    @classmethod
    def read(cls, options: Mapping[str, Any] | None, mode: str | None) -> Options:
        """Reads what `torch.compile` hands over.

        Args:
            options: `torch.compile`'s argument of that name.
            mode: the same.

        Raises:
            OptionError: (a ValueError) an option or a mode that is not known, an option that is neither True nor
                False, or both options at once.
        """
        if mode is not None and mode not in MODES:
            raise OptionError(f"rust_backend has no mode {mode!r}; torch.compile has: {', '.join(MODES)}")
        known = [field.name for field in fields(cls)]
        options = dict(options or {})
        if unknown := sorted(str(name) for name in options.keys() - set(known)):
            raise OptionError(f"rust_backend has no option {', '.join(unknown)}; it knows: {', '.join(known)}")
        for name, value in options.items():
            if not isinstance(value, bool):
                raise OptionError(
                    f"rust_backend's option {name} is True or False, got {value!r}; it knows: {', '.join(known)}"
                )
        chosen = cls(**options)
        if chosen.cache and chosen.keep_weights:
            raise OptionError("rust_backend keeps graphs (cache) or weights (keep_weights), not both")
        return chosen
