# The few commands of this project; CI calls only these. Each works from a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install check test test-all faults bench attack demo clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gateway needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# What needs only Python; what also needs Node, Chromium or gcc runs where they are.
test: install
	$(BIN)/pytest -m 'not slow'

# Everything; a skip counts as a failure. Coverage is gated here.
test-all: install tests/sdk/node_modules
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --no-skips
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

tests/sdk/node_modules: tests/sdk/package.json
	cd tests/sdk && npm install --no-audit --no-fund --loglevel=error
	@touch $@

# The fault suite, long: make faults MINUTES=30 SEED=1; without SEED it takes any and says which.
faults: install
	$(BIN)/python -m tests.faults --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED))

bench: install
	$(BIN)/python -m tests.benchmarks

# What one hostile client costs the others: make attack NAMES="log cookie"; without NAMES all attacks.
attack: install
	$(BIN)/python -m tests.attack $(NAMES)

demo: install
	@$(BIN)/gateway cluster --demo

clean:
	rm -rf $(VENV) dist build tests/sdk/node_modules .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
