# Every target does its own set-up first; the second time there is nothing to do.

.PHONY: help demo test check docs lock setup
.DEFAULT_GOAL := help

python := .venv/bin/python

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## the whole chain on handwritten digits, then a few predictions: about five minutes
	@.venv/bin/dsnet demo

# Many tests wait: for Ray, for MLflow, for what they have killed. So several run at once.
test: check ## what check does, then every test
	@$(python) -m pytest --numprocesses logical --maxprocesses 4

check: docs ## formatting, lint, types, import contracts, declared dependencies, and the site
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo --no-cache
	@.venv/bin/deptry .

docs: setup ## the documentation as a site in build/site; a link that leads nowhere is an error
	@$(python) scripts/pages.py
	@.venv/bin/zensical build --strict

lock: setup ## bring requirements.lock up to date with pyproject.toml
	@.venv/bin/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet \
	    --output-file requirements.lock

setup: ## system packages, .venv and the locked dependencies, without anything else
	@scripts/setup.sh
