# Everything here works on a machine that has Python 3.11 or later and make.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
COMPILE := pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 pyproject.toml

.PHONY: setup demo lint type fast coverage test proof bench docs peers lock clean

setup: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/offers demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

type: setup
	$(BIN)/mypy

# One thread a worker: threads of OpenMP that spin against each other make two busy cores five times slower.
fast coverage test: export OMP_NUM_THREADS = 1
# Where it is set, each of the hundred processes that tests start compiles the package anew.
unexport PYTHONDONTWRITEBYTECODE

FAST := $(wildcard tests/test_*.py) $(addprefix tests/,bundle cli client contracts data engines \
  evaluation events experiments ladder mining offer_catalogue offer_model products ranking reporting)

# What trains no model, starts no server process and is not marked as slow.
fast: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not proof and not slow" $(FAST) $(ARGS)

# How much of the code the fast tests and the slow ones of their folders run; the tracing costs a fifth, which the
# servers' tests are spared.
coverage: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not proof" --cov --cov-report=term $(FAST) $(ARGS)

test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not proof" $(ARGS)

peers: setup requirements-peers.lock
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-peers.lock

proof: peers
	$(BIN)/python -m pytest -m proof -s $(ARGS)

bench: peers
	$(BIN)/python -m pytest -m proof -s tests/benchmarks $(ARGS)

# The site goes to build/site; a warning is an error.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir build/site

lock:
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv $(COMPILE) --extra all --group test --group build --group docs -o requirements.lock
	$(BIN)/uv $(COMPILE) --extra serve --group build -c requirements.lock -o deploy/serve.lock
	$(BIN)/uv $(COMPILE) --extra train --group build -c requirements.lock -o deploy/train.lock
	$(BIN)/uv $(filter-out pyproject.toml,$(COMPILE)) --group peers -c requirements.lock -o requirements-peers.lock

clean:
	rm -rf .venv var build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
