# Two commands on a fresh machine: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

export NO_ALBUMENTATIONS_UPDATE := 1

.PHONY: help quickstart test check lint format tables notebooks install constraints clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

install: $(STAMP) ## a virtual environment with the exact versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[dev]'
	touch $@

quickstart: install ## train and audit a small model on the embedded data, then show the result
	WANDB_MODE=offline $(BIN)/python -m src.cli fit --config configs/quickstart.yaml
	$(BIN)/python -m src.cli report "$$(ls -td runs/quickstart/version_* | head -1)"

test: install ## every test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Scores, evidence, decisions and names: what most changes touch.
FAST := tests/functional tests/evidence tests/statistics tests/selection tests/records tests/testing \
	tests/test_names.py tests/test_moved.py tests/test_randomness.py tests/test_formatting.py tests/packaging/test_docs.py

check: lint ## lint, types and the fast tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile $(FAST)

lint: install ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install ## let ruff rewrite
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tables: install ## write the tables, export lists and pictures that follow from docstrings
	$(BIN)/python docs/make_tables.py

notebooks: install ## run every notebook and store what it puts out
	$(BIN)/python tests/_notebooks.py

constraints: install ## renew the exact versions
	$(BIN)/uv pip compile --quiet --upgrade --extra dev pyproject.toml --python-version 3.11 \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links -o constraints.txt

clean: ## remove the environment and the runs
	rm -rf $(VENV) runs
