# Two commands: `make quickstart` runs the main job on an embedded demo, `make test` passes the tests.
# Each builds its environment from nothing; PYTHON chooses the interpreter (3.11 or 3.12).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Without stored bytecode each of the hundreds of processes that tests begin would compile what it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart test tests check bench clean

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.core: $(BIN)/uv pyproject.toml constraints.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[s3,models,cpu]'
	touch $@

$(VENV)/.dev: $(BIN)/uv pyproject.toml constraints.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[s3,models,lora,endpoints,cpu,text,ocr,dev]'
	touch $(VENV)/.core $@

quickstart: $(VENV)/.core
	$(BIN)/curate demo

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One more than there are processors: tests wait for servers and children half of the time.
WORKERS := $(shell $(PYTHON) -c "import os; print(min(4, (os.cpu_count() or 1) + 1))")

# Types are checked by one process, and so beside the first tests; either failing fails both.
test: $(VENV)/.dev
	@$(MAKE) --no-print-directory -j2 check tests

tests: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

bench: $(VENV)/.dev
	$(BIN)/python bench/engine.py

clean:
	rm -rf $(VENV) quickstart .mypy_cache .ruff_cache .pytest_cache
