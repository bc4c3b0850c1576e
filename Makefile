# `make demo` and `make test` do everything on a fresh machine; see README.md.
# Needed: Python 3.11 or newer (`make PYTHON=python3.12 ...` names another), Rust, a C++20 compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Everything that pyproject.toml names is installed once; the stamp is made anew when it changes.
READY := $(VENV)/ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MAX_JOBS ?= 2
export CARGO_BUILD_JOBS ?= $(MAX_JOBS)

.DEFAULT_GOAL := help
.PHONY: help demo test check nightly fuzz fuzz-calls readable limits distributed databases torchcts upstream suites \
	parity conformance libraries libraries-raise bench bench-env bench-peers bench-kernels bench-avx2 build dev wheel clean

help:
	@sed -n 's/^## //p' Makefile

## make demo    train a CNN on handwritten digits through torch.compile(backend="rust_backend")
demo: build
	$(BIN)/python examples/mnist_rustorch_demo.py

## make test    every test: Rust, Python, the smoke test, the examples
test: build
	cargo test --locked
	$(BIN)/python -m pytest
	$(BIN)/python -m rustorch_device.backend_check
	$(BIN)/python examples/compile_backend_demo.py
	$(BIN)/python examples/mnist_rustorch_demo.py

## make check   formatting, lints, types, the arrows between the parts, the sizes of files
check: $(READY)
	cargo fmt --all --check
	cargo clippy --locked --release --workspace --all-targets -- -D warnings
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python tests/arrows.py
	$(BIN)/python tests/file_sizes.py

## make parity   models on rustorch, eager and compiled, against eager PyTorch on the CPU; DTYPES says in which
DTYPES ?= float32
parity: build
	$(BIN)/python -m rustorch_device.parity --dtype $(DTYPES)

## make conformance   PyTorch's databases of ops, all of them, beside tests/golden and docs/ops.md, which ACCEPT=--accept
##                    writes anew; goes on where it was stopped
ACCEPT ?=
conformance: build
	PYTHONPATH=tests $(BIN)/python -m conformance.run $(ACCEPT)

## make nightly   what takes longer: fuzz, fuzz-calls, readable, limits, distributed, libraries, conformance, suites,
##                and parity in every dtype
nightly: DTYPES := float32 float64 float16 bfloat16
nightly: fuzz fuzz-calls readable limits distributed libraries conformance suites parity

## make fuzz      random programs, eager and compiled, against CPU eager; PROGRAMS says how many, SEED which
PROGRAMS ?= 3000
SEED ?= 0
fuzz: build
	PYTHONPATH=tests $(BIN)/python -m fuzz.run --examples $(PROGRAMS) --seed $(SEED) --keep-going

## make readable  the tests with a capture's stand-ins as users have them: who reads one gets zeros
readable: build
	RUSTORCH_STAND_INS=readable RUSTORCH_RANDOM_GRAPHS=2000 $(BIN)/python -m pytest

## make limits    every op of PyTorch's database where memory is short: it refuses or does, and ends no process
limits: build
	PYTHONPATH=tests $(BIN)/python -m conformance.limits

## make distributed   every test of several processes: two and three, checkpoints, restarts, accelerate
distributed: build
	$(BIN)/python -m pip install -q accelerate
	DISTRIBUTED_TESTS=all $(BIN)/python -m pytest tests/test_batch_norm_parts.py tests/test_distributed*.py tests/test_elastic.py

## make libraries   other people's libraries on the device (docs/libraries.md), in an environment of their own beside
##                  .venv, whose torch it uses; their versions are those of tests/libraries/requirements.txt
LIBRARIES := build/libraries-env
libraries: build $(LIBRARIES)/ready
	$(LIBRARIES)/bin/python -m pytest -rs tests/libraries tests/test_integration_accelerate.py tests/test_integration_lightning.py

## make libraries-raise   look up today's versions of the libraries, and try them
libraries-raise: build
	$(BIN)/python tests/libraries/lock.py
	@$(MAKE) --no-print-directory libraries

$(LIBRARIES)/ready: tests/libraries/requirements.txt
	$(BIN)/python -m venv $(LIBRARIES)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > $$($(LIBRARIES)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/main.pth
	$(LIBRARIES)/bin/python -m pip install -q -r tests/libraries/requirements.txt
	@touch $@

## make suites    databases, torchcts and, with PYTORCH_TESTS=folder, upstream; writes docs/conformance.md
suites: build
	PYTHONPATH=tests $(BIN)/python -m suites.run --write docs/conformance.md

## make databases  PyTorch's databases: second derivatives, forward mode, fake tensors, views, state_dict
## make torchcts   the tests of TorchCTS that people wrote, installed from the package index into build/
## make upstream   PyTorch's own tests for devices: PYTORCH_TESTS names the test folder of a checkout at torch's tag
export PYTORCH_TESTS ?=
databases torchcts upstream: build
	PYTHONPATH=tests $(BIN)/python -m suites.run $@

## make fuzz-calls   every kernel called with arguments that no one would think of: nothing may die or hang
fuzz-calls: build
	PYTHONPATH=tests $(BIN)/python -m fuzz_calls.run

## make bench   measure against the CPU, keep the record in benches/results, and rewrite the tables of docs/performance.md
bench: build
	$(BIN)/python -m benches.run --keep --write docs/performance.md

## make bench-env   an environment for benches in build/bench-env: that of .venv, and the peers of benches/peers.txt
BENCH := build/bench-env
bench-env: build $(BENCH)/ready

# What .venv has is not installed again, as pip sees it there.
$(BENCH)/ready: benches/peers.txt | $(READY)
	$(BIN)/python -m venv $(BENCH)
	site=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	  echo "import site; site.addsitedir('$$site')" > $$($(BENCH)/bin/python -c 'import sysconfig; \
	  print(sysconfig.get_path("purelib"))')/venv.pth
	$(BENCH)/bin/python -m pip install -q -r benches/peers.txt
	@touch $@

## make bench-peers   kernels, and models beside Inductor, ONNX Runtime and OpenVINO; kept, and the tables rewritten
bench-peers: bench-env
	$(BENCH)/bin/python -m benches.run --peers --keep --write docs/performance.md

## make bench-kernels   kernels without PyTorch around them, by criterion, which says what changed since its last run
bench-kernels:
	cargo bench --locked -p rustorch-benches

## make bench-avx2   the same with AVX-512 masked on both sides, as on most desktops, with one thread; kept in benches/results
bench-avx2: build
	RUSTORCH_ISA=avx2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
		$(BIN)/python -m benches.run --only gemm conv pointwise suite --threads 1 --keep

## make build   make .venv, install what is needed, build; after an edit: build what it touched
build: $(READY)
	@$(MAKE) --no-print-directory dev

## make dev     build in place with the .venv that is there, installing nothing
dev:
	$(BIN)/python setup.py -q egg_info build_ext --inplace

## make wheel   a wheel in dist/, tried in a fresh environment without Rust or a compiler
wheel: $(READY)
	rm -rf build/lib* build/wheel dist
	LDFLAGS=-Wl,--strip-debug $(BIN)/python -m pip wheel -q --no-build-isolation --no-deps -w build/wheel .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m auditwheel repair --exclude 'libtorch*' --exclude 'libc10*' -w dist build/wheel/*.whl
	$(BIN)/python tests/wheel.py dist/*.whl

## make clean   remove what was built; .venv stays
clean:
	rm -rf build dist target rustorch_device.egg-info rustorch_device/_C.*.so

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "rustorch needs Python 3.11 or newer, and this is " + sys.version.split()[0] + ": say `make PYTHON=python3.11 ...`")'
	$(PYTHON) -m venv $(VENV)

# The build's own packages come first: without build isolation, the extension is compiled against
# the torch that will load it. It is compiled by `dev`, which shows how far it is; pip would be silent for minutes.
$(READY): pyproject.toml | $(BIN)/python
	@command -v cargo > /dev/null || { echo 'rustorch needs Rust: see https://rustup.rs' >&2; exit 1; }
	$(BIN)/python -c 'import tomllib; \
	  print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' > $(VENV)/build-requires.txt
	$(BIN)/python -m pip install -q -r $(VENV)/build-requires.txt
	@$(MAKE) --no-print-directory dev
	$(BIN)/python -m pip install -q --no-build-isolation -e '.[dev]'
	@touch $@
