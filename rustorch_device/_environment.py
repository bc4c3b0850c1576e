"""The environment variables of the device: what they may be, read in one place when it loads."""

import os
import warnings

ON, OFF = ("1", "on", "true", "yes"), ("0", "off", "false", "no")

#: The values of each; the first spelling of a group is what the native part is given. Nothing at all is the default.
KNOWN: dict[str, tuple[tuple[str, ...], ...]] = {
    "RUSTORCH_AUTOLOAD": (ON, OFF),
    "RUSTORCH_FALLBACK": (("warn",), ("silent",), ("error",)),
    "RUSTORCH_ISA": (("scalar",), ("avx2",), ("avx512",)),
    "RUSTORCH_JIT": (ON, OFF),
    "RUSTORCH_PROFILE": (ON, OFF),
    "RUSTORCH_STAND_INS": (("readable",), ("unreadable",)),
}
#: Read by the examples and the tests.
FREE = ("RUSTORCH_DATA_DIR", "RUSTORCH_RANDOM_GRAPHS")


def read(name: str) -> str:
    """The variable's value, in its first spelling; empty where it is not set, or unknown."""
    value = os.environ.get(name, "").strip().lower()
    return next((spellings[0] for spellings in KNOWN[name] if value in spellings), "")


def settle() -> None:
    """Spells the variables as the native part reads them, and warns of what it does not know."""
    faults = []
    for name in sorted(os.environ):
        if not name.startswith("RUSTORCH_") or name in FREE:
            continue
        value = os.environ[name]
        if name not in KNOWN:
            faults.append(f"{name} is no variable of rustorch's")
        elif read(name):
            os.environ[name] = read(name)
        elif value:
            del os.environ[name]
            choices = ", ".join(spellings[0] for spellings in KNOWN[name])
            faults.append(f"{name}={value} is ignored: it may be {choices}")
    if faults:
        warnings.warn(f"{'; '.join(faults)}. Known are {', '.join(KNOWN)}.", stacklevel=2)
