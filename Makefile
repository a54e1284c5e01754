# `make train` and `make test` need Python >= 3.11, git and make; everything else goes into .venv.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# An interpreter that is named has an environment of its own: make test PYTHON=python3.13 uses .venv-3.13
ifeq ($(origin PYTHON),command line)
VENV := .venv-$(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
else
VENV := .venv
endif
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: train test check nightly portable gpu lint docs clean

train: $(READY)  ## Two Kuka arms, at a size for a laptop
	$(BIN)/python -m epo_lightning fit --config two_arm --config laptop

test: $(READY)  ## On several cores, a file of tests on one
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

check: lint test  ## What every change must pass

nightly: $(READY)  ## What takes too long for every change: slow tests, every task at a laptop's size
	$(BIN)/python -m pytest -m slow -rs --durations 10
	$(BIN)/python -m tests.support.portable

portable: $(READY)  ## The tests under other instruction sets, threads, orders, environments and paths
	$(BIN)/python -m tests.support.portable $(VARIANTS)

gpu: $(READY)  ## All that has to be known of a GPU, in ten minutes: build/gpu/gpu_check.md
	$(BIN)/python -c "import mujoco_warp" 2>/dev/null || $(BIN)/python -m pip install -c constraints.txt -e '.[dev,warp]'
	$(BIN)/python -m benchmarks.gpu_check $(ARGS)

lint: $(READY)  ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)  ## The pages of the documentation, in build/docs/html
	$(BIN)/python docs/site/build.py

clean:
	rm -rf .venv .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

# Repeated when the dependencies change
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 found; say which one: make PYTHON=/path/to/python"; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	@touch $@
