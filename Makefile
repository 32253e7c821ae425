# Two commands do everything on a fresh machine with python3 and make: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BUILT := $(VENV)/.built

.PHONY: help run test lint types source real seeds alone sim torture matrix mutants bench lock clean
.DEFAULT_GOAL := help

help:            ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

$(READY): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock 1>&2
	@touch $@

$(BUILT): $(READY) setup.py $(shell find kvnode kvclient -name '*.py')
	@echo "building kvnode: about a minute where there is a C compiler (KVNODE_PURE=1: without one)" 1>&2
	@rm -rf build
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --force-reinstall . 1>&2
	@touch $@

run: $(BUILT)    ## three nodes on localhost and a shell; leaving the shell stops them
	@$(BIN)/kvnode cluster --shell

test: $(READY)   ## everything that .ci/run runs
	@$(MAKE) --no-print-directory --jobs=2 $(BUILT) lint types source
	@$(MAKE) --no-print-directory --jobs=2 real seeds
	@$(MAKE) --no-print-directory alone

lint: $(READY)   ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## mypy --strict
	$(BIN)/mypy

# What imports the source does without the build, so it runs while the compiler is at work.
SOURCE := tests/checker tests/crash tests/mutants tests/scenarios \
  $(filter-out %/cli %/__pycache__,$(wildcard tests/unit/*))
SEEDS := tests/simulation/test_simulation.py
REAL := tests $(addprefix --ignore=,$(SOURCE) $(SEEDS))
BY_TWO := -n 2 --dist loadfile

source: $(READY) ## tests of the modules, which import the source
	$(BIN)/pytest $(BY_TWO) $(SOURCE)

real: $(BUILT)   ## tests with real nodes
	$(BIN)/pytest $(BY_TWO) $(REAL) -m "not alone"

seeds: $(READY)  ## a thousand seeds of the simulator, in whatever time of the processor others leave
	nice -n 19 $(BIN)/pytest $(SEEDS)

alone: $(BUILT)  ## tests with real nodes that want the machine for themselves
	$(BIN)/pytest $(REAL) -m alone

SEED ?= 1
RUNS ?= 1000
sim: $(READY)    ## simulated clusters under faults: make sim SEED=1 RUNS=1000
	$(BIN)/python -m tests.simulation --seed $(SEED) --runs $(RUNS)

MINUTES ?= 10
torture: $(BUILT)  ## real clusters under faults: make torture MINUTES=10 SEED=1
	$(BIN)/python -m tests.torture --minutes $(MINUTES) --seed $(SEED)

matrix: $(BUILT)  ## every fault of the fault matrix at full length: an hour
	KVNODE_TEST_MATRIX=full KVNODE_TEST_FSYNCS=50 $(BIN)/pytest tests/matrix tests/faults/test_failed_calls.py

mutants: $(READY) ## one rule after the other taken out of a copy, and what notices
	$(BIN)/python -m tests.mutants --all

bench: $(BUILT)  ## all of docs/BENCHMARKS.md: beside Redis, etcd and PySyncObj, half an hour
	$(BIN)/python -m benchmarks $(BENCH)

lock: $(READY)   ## renew requirements.lock from pyproject.toml
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --upgrade --extra dev --generate-hashes --allow-unsafe --strip-extras \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --output-file requirements.lock pyproject.toml

clean:           ## the virtual environment and caches, not data/
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
