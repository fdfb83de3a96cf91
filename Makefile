# Every target works on a bare machine with Python 3.11 or newer; `make` prints this list.
VENV := .venv
PYTHON ?= python3
HEAL := $(VENV)/bin/heal
ARGS ?=
# Tests start hundreds of processes: none shall compile again what the one before has compiled.
export PYTHONDONTWRITEBYTECODE :=
.DEFAULT_GOAL := help
.PHONY: help setup workloads demo test check format serve docs assets screenshots bench mutants clean

help: ## print this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## create .venv with everything that the other targets need

$(VENV)/.ready: pyproject.toml
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@test -x $(VENV)/bin/uv || $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.9,<1"
	@$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python -e ".[dev,postgres,redis]"
	@touch $@

workloads: $(VENV)/.workloads ## add what the GPU workloads need to .venv (torch for this machine, and what their tests compare with)

# uv does not read pip's configuration: where that names a folder of wheels, torch is taken from there.
$(VENV)/.workloads: $(VENV)/.ready
	@links=$${UV_FIND_LINKS:-$$($(VENV)/bin/python -m pip config list | sed -n "s/.*find-links='\(.*\)'/\1/p" | head -n 1)}; \
	UV_FIND_LINKS=$$links $(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python \
		$$(test -n "$$links" || echo --torch-backend=auto) -e ".[dev,postgres,redis,workloads,oracles]"
	@touch $@

demo: setup ## run the whole loop on five real repositories (ARGS=--once exits when they are healed)
	@$(HEAL) demo $(ARGS)

test: workloads ## run every test, on SQLite and on PostgreSQL + Redis
	@$(VENV)/bin/python -m tests.services $(VENV)/bin/pytest --numprocesses 2 --dist loadscope $(ARGS)

check: workloads ## format, lint, types, import contracts, tests
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(MAKE) test

format: setup ## rewrite the sources in the house format
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

serve: setup ## serve the bot on its embedded default (SQLite, workers in the same process)
	@$(HEAL) serve $(ARGS)

docs: setup ## build the documentation into docs/_build
	@$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python -e ".[docs]"
	@$(VENV)/bin/sphinx-build -W -b html docs docs/_build/html

assets: ## refresh the vendored browser assets from npm
	@$(PYTHON) app/web/dashboard/vendor.py

screenshots: setup ## take the pictures of the documentation (needs chromium)
	@$(VENV)/bin/python -m tests.browser.pictures $(ARGS)

bench: setup ## run the benchmarks and write benchmarks/results
	@$(VENV)/bin/python -m benchmarks $(ARGS)

mutants: setup ## change the detectors line by line and see that a test fails (ARGS="detectors.proofs*")
	@$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python -e ".[mutation]"
	@$(VENV)/bin/mutmut run $(ARGS)

clean: ## remove what the targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache docs/_build mutants var
