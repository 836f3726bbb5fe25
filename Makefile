# `make demo` and `make test` each set up a fresh machine by themselves; a second run starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Not compiled beforehand: 300 MB of which most is never imported.
PIP_INSTALL := $(BIN)/pip --disable-pip-version-check install --no-compile --progress-bar on --constraint constraints.txt
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
DOCS := $(VENV)/.installed-docs

.PHONY: install demo test test-all lint benchmark docs clean

# What running needs. torch first: asked for later, a dependency would pull another build of it.
$(RUN): pyproject.toml setup.py constraints.txt
	@test -x $(BIN)/python || { echo "Making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing PyTorch and what runs the bundles (about 1.5 GB on disk without CUDA)"
	@$(PIP_INSTALL) torch
	@$(PIP_INSTALL) --editable .
	@touch $@
	@echo "Installed. Next: . $(BIN)/activate && multimag --help"

$(DEV): $(RUN)
	@echo "Installing what the tests need besides"
	@$(PIP_INSTALL) --editable ".[dev]"
	@touch $@

$(DOCS): $(RUN)
	@echo "Installing what builds the documentation"
	@$(PIP_INSTALL) --editable ".[docs]"
	@touch $@

install: $(RUN)

demo: $(RUN)
	@$(BIN)/multimag demo $(if $(SLIDE),--slide "$(SLIDE)") $(if $(MPP),--mpp $(MPP)) $(if $(OUTPUT),--output "$(OUTPUT)")

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A file's tests stay in one process: they share slides and networks that take seconds to make. Files start in the order
# of tests/conftest.py, longest first.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: lint
	$(PYTEST)

test-all: lint
	$(PYTEST) -m "all or not all"

benchmark: $(DEV)
	@for script in tests/benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

# Warnings are errors: a broken link or docstring is one.
docs: $(DOCS)
	$(BIN)/python -m sphinx --fail-on-warning --quiet docs docs/_build/html
	@echo "Built: docs/_build/html/index.html"

clean:
	rm -rf $(VENV) output/demo docs/_build
