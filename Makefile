# make demo | test | lint | bench: each sets itself up on a Debian machine with python3 and make; offline once installed.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/pip install --quiet --constraint Testing/constraints.txt
export QT_QPA_PLATFORM ?= offscreen

.PHONY: demo test lint bench setup

demo: setup
	$(BIN)/python Testing/demo.py

# Two processes with one thread each: threads of two busy processes would spin against each other.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: setup
	$(BIN)/python Testing/bench.py
	@echo
	$(BIN)/python Testing/bench_training.py

setup: $(READY)

# torch first and alone: what is installed after it finds it there and pulls no other build of it.
$(READY): pyproject.toml Testing/constraints.txt Testing/system_packages.py
	$(PYTHON) Testing/system_packages.py --install
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(PIP) torch==2.13.0
	$(PIP) hatchling editables
	$(PIP) --no-build-isolation --editable .[dev,training]
	touch $@
