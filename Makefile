# The few commands of this project; CI calls only these. Each works from a fresh clone.
VENV := .venv
BIN := $(VENV)/bin
# Unless told otherwise, the one that there is an environment of.
PYTHON ?= $(or $(wildcard $(BIN)/python),python3)
# The Autobahn suite runs on nothing newer.
PYTHON2 ?= python2.7
CONFORMANCE := $(CURDIR)/.conformance
# Files side by side, since a file keeps the servers that its tests share; in four processes even on two cores, since
# many tests wait.
PARALLEL := --numprocesses 4 --dist loadfile --no-loadscope-reorder
SUITE := PYTHONUSERBASE=$(CONFORMANCE)/packages

.PHONY: always install check test test-all conformance faults bench attack demo docs clean

PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check

install: $(VENV)/.installed

# All that development needs, on top of what runs a gateway.
$(VENV)/.installed: loadtest/pyproject.toml $(VENV)/.runs
	@echo "Installing the tools for development into $(VENV); this may take a minute"
	@$(PIP_INSTALL) --editable '.[dev]' --editable ./loadtest
	@touch $@

# The gateway with an embedded Valkey, without the tools of its tests.
$(VENV)/.runs: pyproject.toml $(VENV)/.python
	@echo "Installing the gateway and an embedded Valkey into $(VENV); this may take a minute"
	@$(PIP_INSTALL) --editable '.[valkey]'
	@touch $@

# Which Python the environment is of: another one gets another environment.
$(VENV)/.python: always
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gateway needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@python=$$($(PYTHON) -c 'import sys; print(sys.version, sys.base_prefix)'); [ "$$python" = "$$(cat $@ 2>/dev/null)" ] || \
		{ echo "Making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv --clear $(VENV) && echo "$$python" > $@; }

always:

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# What needs only Python; what also needs Node, Chromium or gcc runs where they are.
test: install
	$(BIN)/pytest $(PARALLEL) -m 'not slow'

# Everything; a skip counts as a failure. Coverage is gated here.
test-all: install tests/sdk/node_modules
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PARALLEL) --no-skips
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

tests/sdk/node_modules: tests/sdk/package.json
	cd tests/sdk && npm install --no-audit --no-fund --loglevel=error
	@touch $@

# The Autobahn test suite: make conformance PYTHON2=python2.7
conformance: install .conformance/.installed
	$(SUITE) $(BIN)/python -m tests.conformance $(PYTHON2) $(CONFORMANCE)/reports

.conformance/.installed: tests/conformance/requirements.txt
	@$(PYTHON2) -c 'import sys; sys.exit(sys.version_info[:2] != (2, 7))' || \
		{ echo "the Autobahn suite needs Python 2.7, and $(PYTHON2) is none: make conformance PYTHON2=..."; exit 1; }
	$(SUITE) $(PYTHON2) -W ignore -m ensurepip --user
	$(SUITE) $(PYTHON2) -W ignore -m pip install --user --ignore-installed --quiet --disable-pip-version-check \
		--no-warn-script-location --requirement $<
	@touch $@

# The fault suite, long: make faults MINUTES=30 SEED=1; without SEED it takes any and says which.
faults: install
	$(BIN)/python -m tests.faults --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED))

bench: install
	$(BIN)/python -m tests.benchmarks

# The site of docs/, in site/: any web server shows it. A link that leads nowhere is an error.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# What one hostile client costs the others: make attack NAMES="log cookie"; without NAMES all attacks.
attack: install
	$(BIN)/python -m tests.attack $(NAMES)

# Its standard output is for programs. With `exec`, Ctrl-C ends no shell, which make would report as an error.
demo: $(VENV)/.runs
	@echo "Starting three nodes and Valkey"
	@exec $(BIN)/gateway cluster --demo --log-level warning >/dev/null

clean:
	rm -rf $(VENV) .conformance dist build site tests/sdk/node_modules .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
