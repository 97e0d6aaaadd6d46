# make repro: the whole pipeline.  make test: lint, types, contracts, tests.  Both set up what is missing.
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1

.PHONY: help setup repro test test-long lint types contracts tests lock

help:
	@echo "make repro   set up what is missing, run the pipeline (dvc repro), print the result"
	@echo "make test    set up what is missing, then lint, types, import contracts and tests"
	@echo "make test-long   further pipelines that continuous integration has no time for"
	@echo "make setup   only set up $(VENV)"
	@echo "make lock    resolve requirements/*.in again (needs uv)"

setup:
	@requirements/install.sh $(VENV)

repro: setup
	@dvc repro
	@assay show

test: setup lint types contracts tests

lint: setup
	ruff check --no-cache .

types: setup
	mypy

contracts: setup
	lint-imports

tests: setup
	pytest -n 2 --dist loadscope --no-loadscope-reorder

test-long: setup
	pytest -n 2 --dist loadscope --no-loadscope-reorder -m long

lock:
	cd requirements && uv pip compile cpu.in --override overrides-cpu.txt --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links -o cpu.txt
	sed -i 's/^torch==\([0-9.]*\)+cpu/torch==\1/' requirements/cpu.txt
	cd requirements && uv pip compile gpu.in --python-version 3.11 --python-platform x86_64-unknown-linux-gnu --no-header --no-emit-index-url --no-emit-find-links -o gpu.txt
