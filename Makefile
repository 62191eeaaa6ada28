# Everything here works on a machine that has Python 3.11 or later and make.
PYTHON ?= python3
OFFERS_DATA ?= $(abspath ../shared/data)
export OFFERS_DATA
BIN := .venv/bin
WORKERS ?= 2

.PHONY: setup demo test proof bench peers lock clean

setup: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/offers demo

# One thread a worker: threads of OpenMP that spin against each other make two busy cores five times slower.
test: export OMP_NUM_THREADS = 1
test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not proof" $(ARGS)

peers: setup requirements-peers.lock
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-peers.lock

proof: peers
	$(BIN)/python -m pytest -m proof -s $(ARGS)

bench: peers
	$(BIN)/python -m pytest -m proof -s tests/benchmarks $(ARGS)

lock:
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 pyproject.toml --group test --group build -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --group peers -c requirements.lock -o requirements-peers.lock

clean:
	rm -rf .venv var .mypy_cache .ruff_cache .pytest_cache .hypothesis
