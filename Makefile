# The two commands of the README are `make demo` and `make test`; each makes .venv first if there is none.
.PHONY: setup demo test lint types unit lock bench clean
BIN := .venv/bin

setup:
	@tools/setup.sh

demo: setup
	$(BIN)/tfaug run --config=experiments.quickstart:digits --workdir=build/demo

test: lint types unit

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy tfaug experiments serving tools

unit: setup
	$(BIN)/python -m pytest

bench: setup
	$(BIN)/python tools/bench.py augment --json=build/bench.json

# Needs uv. One lock file for Python 3.10 and 3.11.
lock:
	uv pip compile setup.cfg --extra dev --universal --python-version 3.10 --generate-hashes --no-header -o requirements.lock

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache
