# Two commands need nothing before them: `make demo` and `make test`. Both make their own environment in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := profiler actors cluster repos tests docs/generate.py

.PHONY: demo test models cluster check lint fast docs bench faults conformance clean help
.DEFAULT_GOAL := help

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

demo: $(VENV)/.demo ## set up, train the quick-start campaign, show where the results are
	$(BIN)/profiler run configs/quickstart.yaml
	@echo
	@session=$$(ls -d results/run_* | tail -n 1); \
	$(BIN)/profiler show "$$session"; \
	echo; echo "Results: $$session"; \
	echo "  $$session/summary.csv              one line a run, old column names"; \
	echo "  $$session/dataset/                 Parquet: runs, samples (10 Hz), plan, processes"; \
	echo "  $$session/examples_mnist_cnn_001/  record, log and events of the first run"

test: $(VENV)/.dev ## the tests; most wait for processes, so four go at a time; up to three that failed once more, alone
	$(BIN)/python -m pytest --cache-clear -n 4 --dist loadfile --no-loadscope-reorder -m "not models and not cluster" \
		|| $(BIN)/python -m tests.alone $$?

models: $(VENV)/.dev ## the tests that train for long, and every model in one campaign: many minutes
	$(BIN)/python -m pytest -m models

cluster: $(VENV)/.cluster ## the tests with several Rays or long campaigns, most on machines made of namespaces; one after the other
	$(BIN)/python -m pytest -m cluster

fast: $(VENV)/.dev
	$(BIN)/python -m pytest -n 3 --dist loadfile -m "not slow and not ray and not train and not fault and not cluster"

check: lint fast ## ruff, mypy --strict, import rules, stale documents, fast tests: under two minutes

lint: $(VENV)/.dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

docs: $(VENV)/.dev ## write the tables in docs/ and configs/README.md anew from the code
	$(BIN)/python docs/generate.py

bench: $(VENV)/.dev ## figures that depend on the machine: overhead, start-up, sampler lateness
	$(BIN)/python -m tests.benchmarks

faults: $(VENV)/.dev ## the kill matrix; N=500 for more rounds
	$(BIN)/python -m tests.faults $(if $(N),--rounds $(N))

conformance: $(VENV)/.dev ## this project and its peers on inputs of known energy: docs/conformance.md (half an hour)
	$(BIN)/python -m tests.conformance

clean: ## remove the environment and caches, never results
	rm -rf $(VENV) .conformance .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[workloads]"
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[workloads,report,dev]"
	@touch $@ $(VENV)/.demo

$(VENV)/.cluster: $(VENV)/.dev
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[cluster]"
	@touch $@
