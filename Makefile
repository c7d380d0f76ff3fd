# Every target works on a fresh machine: the first one run makes .venv (tools/bootstrap.sh), later ones find it.

PYTHON ?=
EXTRAS ?=
ARGS ?=
# One process for each core, four at most; the tests of a file stay together.
PARALLEL ?= -n auto --maxprocesses=4 --dist=loadfile
export PYTHON EXTRAS

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-slow bench docs lint format install clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile
	@echo 'PYTHON=python3.12 chooses the interpreter, EXTRAS=test,cuda what is installed, ARGS="..." is passed on.'

quickstart: install ## Train a robust classifier on the embedded digits and show what it gains
	@.venv/bin/python launch/quickstart.py $(ARGS)

test: install ## Run the tests, e.g. make test ARGS="tests/losses -x"
	@.venv/bin/python -m pytest -q $(PARALLEL) $(ARGS)

test-slow: install ## Run the slow tests
	@.venv/bin/python -m pytest -q -m slow $(PARALLEL) $(ARGS)

bench: override EXTRAS := test,torch
bench: install ## Time the training step beside PyTorch
	@.venv/bin/python -m benchmarks train_step $(ARGS)

docs: override EXTRAS := test,docs
docs: install ## Build the documents as a site, into site/
	@.venv/bin/python -m mkdocs build --strict $(ARGS)

lint: install ## Check style, formatting and types
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .
	@.venv/bin/python -m mypy

format: install ## Mend style and formatting
	@.venv/bin/python -m ruff check --fix .
	@.venv/bin/python -m ruff format .

install: ## Make .venv, or bring it up to date
	@sh tools/bootstrap.sh

clean: ## Remove .venv, caches and build products
	@rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist site *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
