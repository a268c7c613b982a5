# The two commands of the README are `make demo` and `make test`; each makes .venv first if there is none. LANE=tf215
# runs either on the oldest lane, in .venv-tf215.
.PHONY: setup demo test lint types unit test-tf215 test-keras2 lock bench mutants clean
LANE ?= main
export LANE
VENV := $(if $(filter main,$(LANE)),.venv,.venv-$(LANE))
BIN := $(VENV)/bin
# Up to four processes side by side; a file stays whole, for its fixtures.
PYTEST := python -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

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
	$(BIN)/$(PYTEST)

# What of the oldest lane every change is held to: the tables of conformance, `model.fit`, the digests, training, export,
# serving, and the wheel; without the longest tests and with one way of compiling each op, for the main lane runs all.
test-tf215:
	@LANE=tf215 tools/setup.sh
	.venv-tf215/bin/$(PYTEST) tests/test_augment_conformance.py tests/test_augment_dataset.py tests/test_readme.py tests/test_addons.py \
	  tests/test_fingerprint.py tests/test_quantiles.py tests/train tests/test_export.py tests/serving tests/test_wheel.py \
	  -k "not host_and_device and not tensorboard and not unknown_size and not under_xla and not inside_tf_data and not runs_the_quickstart and not two_processes and not killed and not by_xla_learns"

# Keras 2 on the new TensorFlow: the layers, `model.fit` and export.
test-keras2:
	@LANE=main tools/setup.sh
	TF_USE_LEGACY_KERAS=1 .venv/bin/$(PYTEST) tests/test_augment_layers.py tests/test_augment_dataset.py \
	  tests/test_readme.py tests/test_export.py

bench: setup
	$(BIN)/python tools/bench.py augment --json=build/bench.json

# Whether tests notice mistakes: N changes of MODULES, drawn by SEED, each against the tests that concern it. Needs
# tfaug[mutants]; not part of `make test`.
N ?= 40
SEED ?= 0
MODULES ?= tfaug/train tfaug/evaluate tfaug/workdir.py tfaug/study.py tfaug/trials.py
mutants: setup
	nice $(BIN)/python tools/mutants.py $(MODULES) --num=$(N) --seed=$(SEED)

# Needs uv. One lock file a lane, for all its Pythons and for every platform.
lock:
	for lane in main tf215; do uv pip compile setup.cfg requirements/$$lane.in --extra dev --universal \
	  --python-version 3.11 --fork-strategy fewest --generate-hashes --no-emit-index-url --no-header --quiet \
	  -o requirements/$$lane.lock || exit 1; done

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache
