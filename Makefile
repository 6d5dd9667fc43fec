# Needs only Python 3.11 or newer, make and git. `make help` lists the targets.

VENV ?= .venv
WORKERS ?= 2
MARKS ?= not slow
ARGS ?=
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# `make test check` runs the tests once, with coverage; `make test` alone runs them without, which is faster.
ifneq ($(filter check,$(MAKECMDGOALS)),)
COVERAGE := --cov --cov-report=term
endif

.PHONY: help tools setup run test check bench docs docs-check format lint types layers sizes wheel constraints clean
.DEFAULT_GOAL := help

help: ## List the targets.
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## /  make \1: /p' $(MAKEFILE_LIST)

# One stamp for each group of packages, so that `make run` installs no more than it needs. A stamp is
# older than pyproject.toml or constraints.txt when those changed: then the group is installed again.

$(VENV)/pyvenv.cfg:
	@python="$$(scripts/find-python $(PYTHON))" && echo "Making $(VENV) with $$python" && "$$python" -m venv $(VENV)

$(VENV)/.installed-pip: constraints.txt | $(VENV)/pyvenv.cfg
	@$(PIP) --upgrade pip
	@touch $@

$(VENV)/.installed-%: pyproject.toml constraints.txt $(VENV)/.installed-pip
	@echo "Installing Consona for: $*"
	@$(PIP) $(if $(filter run,$*),-e .,-e '.[all]' --group $*)
	@touch $@

tools: ## Install what the tests use beyond Python (Debian, as root): Chromium, axe-core, PostgreSQL.
	@scripts/tools

setup: $(addprefix $(VENV)/.installed-,run test check docs bench) ## Make the environment with everything for working on Consona.

run: $(VENV)/.installed-run ## Start the storefront: shop API, its docs page, the dashboard.
	@cd examples/storefront && exec "$(abspath $(BIN))/consona" up $(ARGS)

test: $(VENV)/.installed-test ## Run all tests. One of them: make test ARGS="-k name".
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope -m "$(MARKS)" $(COVERAGE) $(ARGS)

check: lint types layers test sizes ## Lint, types, layers, tests with coverage, long files.

format: $(VENV)/.installed-check ## Format the code and repair what the linter can.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lint: $(VENV)/.installed-check ## Only the linter and the format.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.installed-check $(VENV)/.installed-test ## Only the type checker.
	@$(BIN)/mypy

layers: $(VENV)/.installed-check ## Only the layers: imports run downwards.
	@$(BIN)/lint-imports --no-logo

sizes: $(VENV)/.installed-check ## Print long files and functions. To be looked at; never a failure.
	@$(BIN)/python scripts/sizes.py

bench: $(VENV)/.installed-bench ## Measure Consona and its peers, side by side. ARGS="name …" picks some.
	@$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.installed-docs ## Build the documentation into site/.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict && echo "Open site/index.html"

wheel: $(VENV)/.installed-check ## Build the wheel, install it in an empty environment, and use it there.
	@$(BIN)/python scripts/fresh_install.py

docs-check: docs $(VENV)/.installed-test ## Build the documentation and look at each page in a browser with axe-core.
	@$(BIN)/python scripts/check_site.py

constraints: ## Renew constraints.txt with the newest versions, on every Python that is found here.
	@"$$(scripts/find-python $(PYTHON))" scripts/constraints.py

clean: ## Remove the environment and what was built.
	rm -rf $(VENV) .venv-* build dist site .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache
