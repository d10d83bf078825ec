# What a newcomer types: `make demo`, `make test`. Each sets up what it needs first.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
DEMO_REPORT ?= demo-report
DEMO_TO ?= 2

.PHONY: help setup demo test test-crash lint lint-style lint-types lint-releases bench protos lock clean

help:  ## say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# No ensurepip, which Debian keeps in a package of its own: the pip that is there installs into the new folder.
.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Segue needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	$(PYTHON) -m pip --version > /dev/null || (echo "pip is not here: apt install python3-pip" >&2; exit 1)
	$(PYTHON) -m venv --without-pip --clear .venv
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --no-deps --require-hashes --requirement requirements.lock
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --no-build-isolation --no-deps --editable .
	$(STRACE)
	$(FAKETIME)
	$(POSTGRESQL)
	touch $@

# For the tests of the order of system calls; without it they are skipped, and say so.
STRACE = command -v strace > /dev/null || (test "$$(id -u)" = 0 && (apt-get update && apt-get install --yes strace) > /dev/null 2>&1) \
	|| echo "strace is not here, so some tests will be skipped: apt install strace" >&2

# For the tests of upgrade servers whose clocks differ.
FAKETIME = ls /usr/lib/*/faketime/libfaketimeMT.so.1 > /dev/null 2>&1 \
	|| (test "$$(id -u)" = 0 && (apt-get update && apt-get install --yes faketime) > /dev/null 2>&1) \
	|| echo "libfaketime is not here, so a test will be skipped: apt install faketime" >&2

# For the tests of the upgrade database. Of the package only the programs are wanted: postgresql-common is told beforehand
# to make no cluster of its own, which would run from then on.
POSTGRESQL = (command -v postgres || ls /usr/lib/postgresql/*/bin/postgres) > /dev/null 2>&1 \
	|| (test "$$(id -u)" = 0 && (apt-get update && apt-get install --yes postgresql-common \
	&& mkdir -p /etc/postgresql-common/createcluster.d \
	&& echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.d/segue.conf \
	&& apt-get install --yes postgresql) > /dev/null 2>&1) \
	|| echo "postgresql is not here, so the tests on it will be skipped: apt install postgresql" >&2

setup: .venv/ready  ## make .venv with everything in it

demo: setup  ## upgrade a running block store from version 1 to version 2, under load (DEMO_TO=3: and on to 3)
	$(BIN)/segue demo --to $(DEMO_TO) --report $(DEMO_REPORT)

test: setup  ## run every test, but of the crashes one in each step: first those that others may run beside
	$(BIN)/python -m tests.lanes

test-crash: setup  ## kill a node at every moment of every step, and at random times: more than 200 crashes in some minutes
	$(BIN)/python -m pytest -m crash tests/crash

lint: lint-types lint-style lint-releases  ## ruff, mypy --strict, import-linter

lint-style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

lint-types: setup
	$(BIN)/mypy

# One run for each release, as packages of one name cannot share one.  For mypy, `previous` is a link to the release before.
BLOCKSTORE := examples/blockstore/blockstore
lint-releases: setup
	mkdir -p build/previous-of-2 && ln -sfn $(CURDIR)/$(BLOCKSTORE)-1 build/previous-of-2/previous
	mkdir -p build/previous-of-3 && ln -sfn $(CURDIR)/$(BLOCKSTORE)-2 build/previous-of-3/previous
	MYPYPATH=$(BLOCKSTORE)-1 $(BIN)/mypy --cache-dir .mypy_cache/blockstore-1 -p blockstore
	MYPYPATH=$(BLOCKSTORE)-2:build/previous-of-2 $(BIN)/mypy --cache-dir .mypy_cache/blockstore-2 -p blockstore
	MYPYPATH=$(BLOCKSTORE)-3:build/previous-of-3 $(BIN)/mypy --cache-dir .mypy_cache/blockstore-3 -p blockstore

bench: setup  ## measure calls, upgrades, pauses, transforms, and upgrade servers with 10,000 nodes: nine to twelve minutes
	$(BIN)/python -m benchmarks

protos: setup  ## generate the examples' gRPC code again
	$(BIN)/python examples/protos.py

lock:  ## write requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --no-annotate --group dev --extra demo --extra postgresql pyproject.toml --output-file requirements.lock

clean:  ## remove what make made
	rm -rf .venv build demo-report .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
