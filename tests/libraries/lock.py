"""Looks up today's versions of the libraries and of what they need, and writes them to requirements.txt.

    python tests/libraries/lock.py

What the project itself needs (torch, torchvision, pytest and what comes with them) is not among them.
"""

import json
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
HEAD = "# The libraries that `make libraries` tries, and what they need, at the versions that were tried.\n"


Seen = dict[str, frozenset[str]]


def needed(package: str, extras: frozenset[str] = frozenset(), seen: Seen | None = None) -> set[str]:
    """The names of an installed package and of all that it needs, with these extras."""
    seen = {} if seen is None else seen
    name = canonicalize_name(package)
    if name in seen and extras <= seen[name]:
        return set(seen)
    seen[name] = seen.get(name, frozenset()) | extras
    try:
        lines = requires(package) or []
    except PackageNotFoundError:
        return set(seen)
    for line in lines:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or {""})):
            needed(requirement.name, frozenset(requirement.extras), seen)
    return set(seen)


def newest() -> dict[str, str]:
    """Each package's version, by its name, as pip would install them with this torch into an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        torch = f"torch=={version('torch').partition('+')[0]}"
        wanted = ["--report", str(report), "-r", str(HERE / "requirements.in"), torch]
        subprocess.run([*command, *wanted], check=True)
        found = json.loads(report.read_text())["install"]
    return {item["metadata"]["name"]: item["metadata"]["version"] for item in found}


if __name__ == "__main__":
    own = needed("rustorch-device", frozenset({"dev"}))
    locked = {name: number for name, number in newest().items() if canonicalize_name(name) not in own}
    lines = [f"{name}=={number}\n" for name, number in sorted(locked.items(), key=lambda item: item[0].lower())]
    (HERE / "requirements.txt").write_text(HEAD + "".join(lines))
    print(f"{len(lines)} packages")
