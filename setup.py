"""Builds the one extension `rustorch_device._C`: the Rust static library, linked with the C++ shim.

cargo (through setuptools-rust) builds `rust/bridge` with everything under it, and writes the C++
side of the op table; then torch's BuildExtension compiles `csrc/` with ninja. The build folder is
fixed, so that editing a kernel recompiles no C++, also in an editable install.
"""

import os
import sys
from pathlib import Path

# The device must not load into the process that builds it.
os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
# ninja is found by its name; a venv that is used without being activated is not on PATH.
os.environ["PATH"] = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"

from setuptools import find_packages, setup
from setuptools_rust import Binding, RustExtension
from setuptools_rust import build_rust as BuildRust
from torch.utils.cpp_extension import BuildExtension, CppExtension, include_paths

ROOT = Path(__file__).parent.resolve()
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
GENERATED = TARGET / "generated"

RUST = RustExtension(
    "rustorch_device._rust",
    path="rust/bridge/Cargo.toml",
    binding=Binding.NoBinding,
    args=["--locked", "--crate-type", "staticlib,cdylib"],
    debug=False,
)


class Build(BuildExtension):
    """Builds Rust first, then C++ into a fixed folder."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self.build_temp = str(ROOT / "build" / "cpp")

    def finalize_options(self) -> None:
        super().finalize_options()
        # An editable install asks for a temporary folder, which would recompile everything.
        self.build_temp = str(ROOT / "build" / "cpp")

    def build_extensions(self) -> None:
        os.environ["CARGO_TARGET_DIR"] = str(TARGET)
        build_rust = BuildRust(self.distribution)
        build_rust.ensure_finalized()
        build_rust.build_extension(RUST)
        library = TARGET / "release" / "librustorch_bridge.a"
        headers = [*(ROOT / "csrc").rglob("*.h"), *GENERATED.iterdir()]
        for extension in self.extensions:
            extension.extra_objects = [str(library)]
            # setuptools asks whether anything is newer than the extension; ninja then knows what.
            extension.depends = [str(path) for path in (library, *headers)]
        super().build_extensions()


setup(
    packages=find_packages(include=["rustorch_device", "rustorch_device.*"]),
    ext_modules=[
        CppExtension(
            "rustorch_device._C",
            sources=sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.cpp")),
            # PyTorch's headers include kineto's by their bare names.
            include_dirs=[str(ROOT / "csrc"), str(GENERATED), *(f"{path}/kineto" for path in include_paths()[:1])],
            extra_compile_args=["-std=c++20", "-O3", "-g0", "-Wall", "-Wno-unknown-pragmas", "-fvisibility=hidden"],
            # torch's libraries are loaded before; where they are not, they lie beside this package.
            extra_link_args=["-Wl,--gc-sections", "-Wl,--exclude-libs,ALL", "-Wl,-rpath,$ORIGIN/../torch/lib"],
        )
    ],
    cmdclass={"build_ext": Build},
)
