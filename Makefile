# `make demo` and `make test` do everything on a fresh machine; see README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# torch and the build's own packages are installed once; the stamp is made anew when they change.
READY := $(VENV)/ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MAX_JOBS ?= 2

.PHONY: dev
# A build in place, without installing: for work on the project itself (`PYTHONPATH=.`).
dev:
	$(BIN)/python setup.py -q egg_info build_ext --inplace

