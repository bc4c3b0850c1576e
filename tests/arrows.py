"""Checks that every arrow between the parts points one way: Python -> csrc -> bridge -> graph -> kernels.

`python tests/arrows.py` prints what turns round and exits with 1. Part of `make check`.
"""

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What each crate may depend on among our own, and the crates from outside that it must not know.
CRATES: dict[str, set[str]] = {
    "kernels": set(),
    "graph": {"kernels"},
    "checkpoint": set(),
    "bridge": {"graph", "kernels", "checkpoint"},
    "benches": {"kernels"},
}
PREFIX = "rustorch-"
# Only the bridge speaks with C++ or Python, and no crate knows torch.
FOREIGN = {"cxx", "cxx-build", "pyo3", "numpy", "tch", "torch-sys"}
FOREIGN_ALLOWED = {"bridge": {"cxx", "cxx-build", "pyo3"}}

# C++ sees Rust through the generated op ids and the cxx header only, and Python through pybind11.
GENERATED = re.compile(r"ops\.h|pointwise_\w+\.inc|rust/cxx\.h|rustorch-bridge/src/\w+\.rs\.h")
LIBRARIES = re.compile(r"(ATen|c10|torch|kineto|pybind11)/.*|[a-z_]+|Python\.h|(sys|linux)/\w+\.h|[a-z]+\.h")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
# The C++ side never calls back into the Python package.
PACKAGE_IN_CPP = re.compile(r'import(?:_module)?\(\s*"rustorch_device|PyImport_\w+\(\s*"rustorch_device')

# The Python package stands on torch and its own extension.
PYTHON_ALLOWED = {"torch", "rustorch_device"}


def crate_faults(root: Path) -> list[str]:
    faults = []
    for manifest in sorted((root / "rust").glob("*/Cargo.toml")):
        crate, where = manifest.parent.name, manifest.relative_to(root)
        if crate not in CRATES:
            faults.append(f"{where}: the crate is not in CRATES of tests/arrows.py; say there what it may depend on")
            continue
        for dependency in sorted(dependencies(tomllib.loads(manifest.read_text()))):
            ours = dependency.removeprefix(PREFIX)
            if dependency.startswith(PREFIX) and ours not in CRATES[crate]:
                faults.append(f"{where}: {crate} must not depend on {ours}")
            if dependency in FOREIGN - FOREIGN_ALLOWED.get(crate, set()):
                faults.append(f"{where}: {crate} must not know {dependency}")
    return faults


def dependencies(manifest: dict) -> set[str]:
    """The packages that a manifest names, under whatever name and for whatever target or profile."""
    found = set()
    for section, value in manifest.items():
        if section.endswith("dependencies"):
            for name, how in value.items():
                found.add(how.get("package", name) if isinstance(how, dict) else name)
        elif section == "target":
            for target in value.values():
                found |= dependencies(target)
    return found


def include_faults(root: Path) -> list[str]:
    faults = []
    csrc = root / "csrc"
    for path in sorted(p for p in csrc.rglob("*") if p.suffix in {".h", ".cpp"}):
        where, text = path.relative_to(root), path.read_text()
        for mark, name in INCLUDE.findall(text):
            ours = (csrc / name).is_file() or (path.parent / name).is_file()
            if mark == '"' and not ours and not GENERATED.fullmatch(name):
                faults.append(f'{where}: #include "{name}" is neither in csrc nor generated')
            if mark == "<" and not LIBRARIES.fullmatch(name):
                faults.append(f"{where}: #include <{name}> is neither torch's nor the standard library's")
        if PACKAGE_IN_CPP.search(text):
            faults.append(f"{where}: C++ must not import the Python package")
    return faults


def import_faults(root: Path) -> list[str]:
    faults = []
    for path in sorted((root / "rustorch_device").rglob("*.py")):
        where = path.relative_to(root)
        # An integration is for one library, which its user has.
        its_own = {path.stem} if path.parent.name == "integrations" else set()
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                top = name.split(".")[0]
                if top not in PYTHON_ALLOWED | its_own and top not in sys.stdlib_module_names:
                    faults.append(f"{where}:{node.lineno}: the package must not import {top}")
    return faults


def faults(root: Path) -> list[str]:
    return crate_faults(root) + include_faults(root) + import_faults(root)


if __name__ == "__main__":
    found = faults(ROOT)
    print("\n".join(found) or "every arrow points the right way")
    sys.exit(bool(found))
