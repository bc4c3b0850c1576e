"""Builds the one extension `rustorch_device._C`: the Rust static library, linked with the C++ shim.

cargo (through setuptools-rust) builds `rust/bridge` with everything under it, and writes the C++
side of the op table; then torch's BuildExtension compiles `csrc/` with ninja. The build folder is
fixed, so that editing a kernel recompiles no C++, also in an editable install.
"""

import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

# The device must not load into the process that builds it.
os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
# ninja is found by its name; a venv that is used without being activated is not on PATH.
os.environ["PATH"] = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"

import torch
from setuptools import find_packages, setup
from setuptools_rust import Binding, RustExtension
from setuptools_rust import build_rust as BuildRust
from torch.utils.cpp_extension import BuildExtension, CppExtension, get_cxx_compiler, include_paths

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


#: PyTorch's headers that nearly every file of `csrc/` reads: half of a file's time, where they are not compiled once.
COMMON = ROOT / "csrc" / "common.h"


def precompiled(flags: list[str], folder: Path) -> list[str]:
    """Compiles [`COMMON`] where it is not compiled yet with these flags, and says how a file includes it.

    A compiler that does not take what another made reads the header itself.
    """
    command = [*shlex.split(get_cxx_compiler()), *flags, "-x", "c++-header", str(COMMON)]
    folder.mkdir(parents=True, exist_ok=True)
    header, stamp = folder / COMMON.name, folder / "stamp"
    made_of = hashlib.sha256("\0".join([*command, torch.__version__, COMMON.read_text()]).encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != made_of:
        print(f"precompiling {COMMON.relative_to(ROOT)}", flush=True)
        header.write_text(f'#include "{COMMON}"\n')
        subprocess.run([*command, "-o", f"{header}.gch"], check=True)
        stamp.write_text(made_of)
    return ["-include", str(header)]


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
            defined = ["-DTORCH_API_INCLUDE_EXTENSION_H", f"-DTORCH_EXTENSION_NAME={extension.name.split('.')[-1]}"]
            folders = [f"-I{folder}" for folder in (*extension.include_dirs, *self.compiler.include_dirs)]
            flags = [*self.compiler.compiler_so[1:], *folders, *extension.extra_compile_args, *defined]
            extension.extra_compile_args += precompiled(flags, Path(self.build_temp) / "precompiled")
        super().build_extensions()


setup(
    packages=find_packages(include=["rustorch_device", "rustorch_device.*"]),
    ext_modules=[
        CppExtension(
            "rustorch_device._C",
            sources=sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.cpp")),
            # PyTorch's headers include kineto's by their bare names.
            include_dirs=[str(ROOT / "csrc"), str(GENERATED), *(f"{path}/kineto" for path in include_paths()[:1])],
            extra_compile_args=[
                *("-std=c++20", "-O3", "-g0", "-Wall", "-Wno-unknown-pragmas", "-fvisibility=hidden"),
                # PyTorch's headers silence the first for themselves, which a precompiled header forgets; of the second
                # gcc warns wherever they are read.
                *("-Wno-sign-compare", "-Wno-interference-size"),
            ],
            # torch's libraries are loaded before; where they are not, they lie beside this package.
            extra_link_args=["-Wl,--gc-sections", "-Wl,--exclude-libs,ALL", "-Wl,-rpath,$ORIGIN/../torch/lib"],
        )
    ],
    cmdclass={"build_ext": Build},
)
