"""The checks of the tree's shape: they pass on this tree, and see an arrow that turns round."""

import arrows
import file_sizes
import pytest


@pytest.fixture
def tree(tmp_path):
    """A small tree whose arrows are right."""

    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    write("rust/kernels/Cargo.toml", '[dependencies]\nlibc = "0.2"\n')
    write("rust/graph/Cargo.toml", '[dependencies]\nrustorch-kernels = { path = "../kernels" }\n')
    write("rust/bridge/Cargo.toml", '[dependencies]\ncxx = "1"\nrustorch-graph = { path = "../graph" }\n')
    write("csrc/bridge.h", '#include <ATen/core/Tensor.h>\n#include <vector>\n#include "ops.h"\n')
    write("csrc/aten/view.cpp", '#include "bridge.h"\n#include <torch/library.h>\n')
    write("rustorch_device/__init__.py", "import os\nimport torch\nfrom . import _C\n")
    return tmp_path, write


def test_this_tree_is_sound():
    assert arrows.faults(arrows.ROOT) == []
    assert file_sizes.too_long(file_sizes.ROOT) == []


def test_a_sound_tree_has_no_faults(tree):
    assert arrows.faults(tree[0]) == []


@pytest.mark.parametrize(
    ("path", "text", "fault"),
    [
        ("rust/kernels/Cargo.toml", "[dependencies]\nrustorch-graph.path = '../graph'\n", "must not depend on graph"),
        ("rust/graph/Cargo.toml", "[dev-dependencies]\nrustorch-bridge.path = '../b'\n", "must not depend on bridge"),
        ("rust/graph/Cargo.toml", "[dependencies]\nx = { package = 'rustorch-bridge' }\n", "must not depend on bridge"),
        ("rust/kernels/Cargo.toml", "[target.'cfg(unix)'.dependencies]\npyo3 = '0'\n", "must not know pyo3"),
        ("rust/graph/Cargo.toml", "[dependencies]\ncxx = '1'\n", "must not know cxx"),
        ("rust/bridge/Cargo.toml", "[dependencies]\ntch = '1'\n", "must not know tch"),
        ("rust/extra/Cargo.toml", "[dependencies]\n", "not in CRATES"),
        ("csrc/aten/view.cpp", '#include "../../rust/kernels/secret.h"\n', "neither in csrc nor generated"),
        ("csrc/aten/view.cpp", "#include <boost/any.hpp>\n", "neither torch's nor the standard library's"),
        ("csrc/aten/view.cpp", 'py::module_::import("rustorch_device");\n', "must not import the Python package"),
        ("rustorch_device/backend.py", "def late():\n    import numpy\n", "must not import numpy"),
        ("rustorch_device/backend.py", "from setuptools import setup\n", "must not import setuptools"),
        ("rustorch_device/integrations/timm.py", "import timm\nimport peft\n", "must not import peft"),
    ],
)
def test_an_arrow_that_turns_round_is_seen(tree, path, text, fault):
    root, write = tree
    write(path, text)
    found = arrows.faults(root)
    assert len(found) == 1
    assert path in found[0]
    assert fault in found[0]


def test_a_long_file_is_seen(tree):
    root, write = tree
    write("rustorch_device/long.py", "pass\n" * (file_sizes.MOST_LINES + 1))
    assert file_sizes.too_long(root) == ["rustorch_device/long.py has 601 lines; 600 is the most"]
