# Every target sets up what it needs: a fresh clone, Python 3.11+ and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV = $(shell command -v uv || echo $(BIN)/uv)
READY := $(VENV)/.ready
# Trials set their own thread count; test processes run side by side.
export OMP_NUM_THREADS ?= 1
# Hundreds of processes start in the tests: each would compile this repository again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo cluster-demo zoo test test-units test-ray test-arithmetic test-arithmetic-oldest test-arithmetic-avx2 quick storm check docs lock clean

demo: $(READY)
	$(BIN)/tune-app demo

cluster-demo: $(READY)
	$(BIN)/python -m cluster.demo examples/cluster_demo.yaml

# Tests with Ray run one after the other, and wait a lot for processes that start or die: the others fill those gaps, at
# a priority that takes nothing from them.
test: $(READY)
	$(MAKE) --no-print-directory --jobs=2 test-units test-ray

test-units: $(READY)
	nice -n 19 $(BIN)/pytest --numprocesses logical --dist loadfile -m "not ray and not zoo"

test-ray: $(READY)
	$(BIN)/pytest -m ray

# Networks of torchvision and published checkpoints (TUNE_APP_CHECKPOINTS, TUNE_APP_CIFAR10), minutes each.
zoo: $(READY)
	$(BIN)/pytest -m zoo tests/zoo

# Kills and pauses at every place of a search, for an hour; benchmarks/results/storm.md says what came of it.
MINUTES ?= 60
SEED ?= 0
storm: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.storm --minutes $(MINUTES) --seed $(SEED)

# What must be the same on every processor, once more with the instructions and the thread counts of other ones.
NUMERIC = $(shell grep -rl "mark[.]numeric" tests)
test-arithmetic: $(READY)
	$(MAKE) --no-print-directory --jobs=2 test-arithmetic-oldest test-arithmetic-avx2

test-arithmetic-oldest: $(READY)
	ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE ONEDNN_MAX_CPU_ISA=SSE41 OMP_NUM_THREADS=1 $(BIN)/pytest -m numeric $(NUMERIC)

test-arithmetic-avx2: $(READY)
	ATEN_CPU_CAPABILITY=avx2 OMP_NUM_THREADS=2 $(BIN)/pytest -m numeric $(NUMERIC)

# The tests that a change since SINCE touches: an answer in less than 90 seconds.
SINCE ?= main
quick: $(READY)
	$(BIN)/python -m tests.quick $(SINCE)

check: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(MAKE) test

$(READY): requirements.lock pyproject.toml
	@test -x $(BIN)/python || (command -v uv >/dev/null && uv venv --quiet --python $(PYTHON) $(VENV)) || $(PYTHON) -m venv $(VENV)
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@$(UV) pip sync --quiet --compile-bytecode --only-binary :all: --python $(BIN)/python requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

docs: $(READY)
	$(BIN)/python docs/reference.py
	$(BIN)/python docs/columns.py
	$(BIN)/python docs/architecture.py

# Pins and hashes, but no index address: the lock works with any mirror.
lock:
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --extra s3 --extra gcs --extra figures --extra mlflow \
		--custom-compile-command "make lock" --group dev pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV)
