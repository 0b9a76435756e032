# The two commands that a fresh clone needs are `make dev` and `make test`; the rest keeps house.
#
#   make dev                          three nodes, 16 groups, on loopback
#   make dev ARGS="--nodes 1"         the same with other options of `quorate dev`
#   make test                         every test
#   make test ARGS="tests/unit -x"    the same with other arguments to pytest
#   make fast                         the same program with a compiled core, in .venv-fast; needs a C compiler

.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: help dev test fast lint install install-dev install-bench install-peers install-faults lock clean

# The interpreter that makes .venv: the first of these that runs and is 3.11 or newer.
CANDIDATES = python3.11 python3.12 python3.13 python3.14 python3
PYTHON ?= $(shell for p in $(CANDIDATES); do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$p" && break; done)

VENV := .venv
FAST := .venv-fast
SOURCES := $(wildcard quorate/*.py ops/*.py bench/*.py bench/*/*.py shards/*.py router/*.py raftgroup/*.py primitives/*.py)
BIN := $(VENV)/bin
# Only what the lock files name is ever fetched; the project itself is built by the locked setuptools.
PIP_LOCKED := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
PIP_PROJECT := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps \
	--no-build-isolation --editable .
UV_COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-annotate

help:
	@sed -n '3,8s/^# \{0,1\}//p' Makefile

dev: install
	@$(BIN)/quorate dev $(or $(ARGS),--groups 16)

test: install-dev
	$(BIN)/python -m pytest $(ARGS)

# An installation of its own: what is compiled there is not found by whoever runs the sources.
fast: $(FAST)/.installed
	@echo 'use it like .venv: $(FAST)/bin/quorate dev --groups 16'

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy $(wildcard examples/*.py)

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer among: $(CANDIDATES)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	$(PIP_LOCKED) -r requirements.lock
	$(PIP_PROJECT)
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(PIP_LOCKED) -r requirements-dev.lock
	@touch $@

$(FAST)/.installed: $(SOURCES) setup.py pyproject.toml requirements.lock requirements-dev.lock
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer among: $(CANDIDATES)" >&2; exit 1; }
	@command -v "$${CC:-cc}" >/dev/null || { echo "make: no C compiler: install gcc, or name one by CC" >&2; exit 1; }
	$(PYTHON) -m venv $(FAST)
	$(FAST)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock \
		-r requirements-dev.lock
	QUORATE_COMPILE=1 $(FAST)/bin/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps \
		--no-build-isolation --force-reinstall .
	@touch $@

# What `quorate bench` needs besides; it is part of what is installed for development.
install-bench: install
	$(PIP_LOCKED) -r requirements-bench.lock

# The systems that `quorate bench` compares with: clients, load generators, and as root the servers.
install-peers: install-bench
	$(PIP_LOCKED) -r requirements-peers.lock
	bench/peers/install.sh $(VENV)

# What slow and failing syncs in `python -m bench.processes` need; built here, with gcc, pkg-config and libfuse3-dev.
install-faults: install-dev
	$(PIP_LOCKED) -r requirements-faults.lock

# Writes the lock files anew; needs uv in the virtual environment. setuptools and wheel build the project.
lock: | $(BIN)/python
	printf 'setuptools>=77\nwheel\n' | $(UV_COMPILE) $(UPGRADE) pyproject.toml - -o requirements.lock
	printf 'setuptools>=77\nwheel\n' | $(UV_COMPILE) $(UPGRADE) --extra dev -c requirements.lock pyproject.toml - \
		-o requirements-dev.lock
	printf 'setuptools>=77\nwheel\n' | $(UV_COMPILE) $(UPGRADE) --extra dev --extra fuzz -c requirements-dev.lock \
		pyproject.toml - -o requirements-fuzz.lock
	printf 'setuptools>=77\nwheel\n' | $(UV_COMPILE) $(UPGRADE) --extra faults -c requirements.lock pyproject.toml - \
		-o requirements-faults.lock
	printf 'setuptools>=77\nwheel\n' | $(UV_COMPILE) $(UPGRADE) --extra bench -c requirements-dev.lock pyproject.toml - \
		-o requirements-bench.lock
	printf 'setuptools>=77\nwheel\n' | $(UV_COMPILE) $(UPGRADE) --extra peers -c requirements-dev.lock pyproject.toml - \
		-o requirements-peers.lock

clean:
	rm -rf $(VENV) $(FAST) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
