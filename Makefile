# make demo   environment, install, main job on the bundled models, report
# make test   environment, install, all checks
# Another place for the environment: make test VENV=/tmp/env; another interpreter: PYTHON=python3.13

VENV   ?= .venv
PYTHON ?= python3
EXTRAS ?= dev,transformers,frames,serving
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test check lint types imports pytest clean

demo: $(VENV)/.installed
	$(BIN)/poise demo

test: $(VENV)/.installed-dev
	$(MAKE) --no-print-directory check

check: lint types imports pytest

lint:
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types:
	$(BIN)/mypy

imports:
	$(BIN)/lint-imports --no-cache

pytest:
	$(BIN)/pytest $(PYTEST_ARGS)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[$(EXTRAS)]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
