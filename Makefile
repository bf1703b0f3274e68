# Two commands on a fresh machine: `make demo` and `make test`. Each makes or reuses .venv and installs what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ONCE   ?=
PORT   ?=
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable

.PHONY: demo test check kit.js bench torture fuzz browser pooler clean

demo: $(VENV)/.cli
	$(BIN)/kit demo $(if $(ONCE),--once) $(if $(PORT),--port $(PORT))

# A file's tests stay in one process; there are as many processes as cores, and JOBS=0 runs all in this one.
test: $(READY) browser pooler
	$(BIN)/pytest --numprocesses $(or $(JOBS),auto) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The minified kit.js that is served, and its source map; a test holds both to static/kit.js.
kit.js: $(READY)
	$(BIN)/python -m tests.web.minified

bench: $(VENV)/.bench
	$(BIN)/python -m tests.benchmarks $(ARGS)

# Real processes killed and frozen under load, e.g. `make torture N=20000 KILLS=250 FREEZES=60 ENGINE=postgresql SEED=7`.
# PGKILLS=n restarts the PostgreSQL server n times, REPORT=file keeps the figures as JSON.
torture: $(READY)
	$(BIN)/python -m tests.torture number=$(N) kills=$(KILLS) freezes=$(FREEZES) pg_kills=$(PGKILLS) \
	  engine=$(ENGINE) seed=$(SEED) report=$(REPORT)

# Mutated requests by the million, e.g. `make fuzz N=5000000`. A failure names its seed and number: `make fuzz ONLY=seed:number`.
fuzz: $(READY)
	KIT_FUZZ=$(or $(N),1000000) KIT_FUZZ_ONLY=$(ONLY) $(BIN)/pytest -q tests/attacks/test_mutations.py

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.cli: pyproject.toml | $(BIN)/python
	$(INSTALL) '.[cli]'
	touch $@

$(READY): pyproject.toml | $(BIN)/python
	$(INSTALL) '.[dev]'
	touch $@ $(VENV)/.cli

$(VENV)/.bench: $(READY)
	$(INSTALL) '.[dev,bench]'
	touch $@

# The browser tests use the system's Chromium. As root on Debian it is installed; elsewhere without one they are skipped.
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	  else echo "no Chromium found: the browser tests will be skipped"; fi; }

# PgBouncer, the same way: as root on Debian it is installed; elsewhere without one its tests are skipped.
pooler:
	@PATH="$$PATH:/usr/sbin"; command -v pgbouncer >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends pgbouncer >/dev/null; \
	  else false; fi; } || echo "no PgBouncer found: its tests will be skipped"

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
