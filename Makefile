# Each target sets up all it needs first: a virtual environment in .venv under the exact versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
PROFILE ?= lab

.DEFAULT_GOAL := help
.PHONY: help install run test test-full nightly jupyter notebooks clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else f"mtd needs Python 3.11 to 3.13 and $(PYTHON) is {v[0]}.{v[1]}; call make PYTHON=python3.12, say")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

install: .venv/installed  ## make .venv (a second call reinstalls nothing)

run: install  ## run the pipeline headlessly: make run, or make run PROFILE=gsm8k
	$(BIN)/mtd run --profile $(PROFILE)

test: install  ## the tests, about 25 minutes on two cores
	$(BIN)/pytest -m 'not full'

test-full: install  ## the long rest of the tests
	$(BIN)/pytest -m full

nightly: install  ## random inputs for the executors, 100,000 for each test
	MTD_FUZZ=100000 $(BIN)/pytest -m fuzz

jupyter: install  ## open the notebooks in JupyterLab
	cd nbs && ../$(BIN)/jupyter lab

notebooks: install  ## execute every notebook in place with the lab profile, export, and write the README from nbs/index.ipynb
	$(BIN)/nbdev-export
	$(BIN)/python tests/refresh.py

clean:  ## remove what runs made (completions that were paid for stay in runs/completions.sqlite)
	find runs -mindepth 1 -maxdepth 1 ! -name 'completions.sqlite*' -exec rm -rf {} +
