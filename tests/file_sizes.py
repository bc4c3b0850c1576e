"""Checks that files stay short: one idea each. Part of `make check`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("csrc", "rust", "rustorch_device", "tests", "examples", "benches", "docs")
SUFFIXES = {".rs", ".cpp", ".h", ".py", ".md", ".toml"}
MOST_LINES = 600
#: Written by `make conformance`, a line an op; and by the benches, a line a case.
GENERATED = ("docs/ops.md", "tests/golden/not_native.toml", "docs/performance/")


def too_long(root: Path) -> list[str]:
    found = []
    paths = [path for folder in FOLDERS for path in (root / folder).rglob("*")] + list(root.glob("*"))
    for path in sorted(path for path in paths if path.suffix in SUFFIXES and path.is_file()):
        if path.relative_to(root).as_posix().startswith(GENERATED):
            continue
        lines = path.read_text().count("\n")
        if lines > MOST_LINES:
            found.append(f"{path.relative_to(root)} has {lines} lines; {MOST_LINES} is the most")
    return found


if __name__ == "__main__":
    found = too_long(ROOT)
    print("\n".join(found) or "every file is short enough")
    sys.exit(bool(found))
