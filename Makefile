# Every target installs what it needs; Python 3.11 or newer is enough to start. `make` alone lists the targets.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do "$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v "$$p" && break; done)
VENV := .venv
BIN := $(VENV)/bin
SEEDS ?= 2000
EXAMPLES ?= 1000
WORKERS ?= 2
SEED ?= 1
MINUTES ?= 5
STORE ?= sqlite
RATE ?= 4
# Tests that start the same servers stay in one worker. The slowest tests are listed, and a tier over its budget (in seconds) fails.
PYTEST := $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadgroup --no-loadscope-reorder --durations=25 -p tests.budget
export STAGELINE_DATA_DIR ?= .stageline

.DEFAULT_GOAL := help
.PHONY: help setup demo up down test test-slow simulate chaos check format bench fuzz samples docs dist lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/run: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Stageline needs Python 3.11 or newer on the PATH"; exit 1; }
	@echo "Installing $$(grep -c '^[a-z]' requirements.lock) packages into $(VENV); the first time takes a minute or two"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev: $(VENV)/run requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

setup: $(VENV)/run ## Install Stageline into .venv

demo: $(VENV)/run ## Run the pipeline on the sample documents and show what happens
	$(BIN)/python -m cli.demo

up: $(VENV)/run ## Start the pipeline here (Ctrl-C stops it)
	$(BIN)/stageline up

down: $(VENV)/run ## Stop a pipeline started with `stageline up --detach`
	$(BIN)/stageline down

test: $(VENV)/dev ## Run the tests (real Kafka, real processes; 8 minutes on two cores)
	$(BIN)/python -m tests.downloads
	$(PYTEST) --budget-s 480 -m "not slow"

test-slow: $(VENV)/dev ## Run the tests that `make test` leaves out: kills, replicas, upgrades, containers, fuzz, seeded chaos (40 minutes)
	$(BIN)/python -m tests.downloads --slow
	$(PYTEST) --budget-s 2400 -m slow

simulate: $(VENV)/dev ## Run SEEDS histories of the deciders under a virtual clock, and find every planted bug
	$(BIN)/python -m tests.simulation --seeds $(SEEDS)

chaos: $(VENV)/dev ## Apply SEED's faults for MINUTES to a running pipeline on STORE (sqlite or postgres), and judge it from outside
	$(BIN)/python -m tests.chaos.harness --seed $(SEED) --minutes $(MINUTES) --store $(STORE) --rate $(RATE) $(CHAOS)

check: $(VENV)/dev ## Style, types, import rules, unit tests, contracts (2 minutes)
	began=$$(date +%s) && $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && $(BIN)/mypy && \
	$(PYTEST) --budget-s 180 --budget-from $$began -m "not slow" tests/architecture tests/unit tests/contracts

format: $(VENV)/dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/run ## Measure the pipeline and its limit, in turns
	$(BIN)/python -m benchmarks.run $(BENCH)

fuzz: $(VENV)/dev ## Send EXAMPLES generated requests to every operation of the HTTP API (Schemathesis, all checks)
	STAGELINE_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -s tests/e2e/test_fuzz.py

docs: $(VENV)/dev ## Write the generated documents, and build the site into site/
	$(BIN)/python -m scripts.docs
	$(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html"

samples: $(VENV)/dev ## Make the sample documents again
	$(BIN)/python samples/make_samples.py

dist: $(VENV)/dev ## Build wheels (Stageline, contracts, kit), sdists and SBOM into dist/, and try the wheels in empty environments
	$(BIN)/python scripts/make_dist.py

lock: $(VENV)/dev ## Resolve the dependencies and pin them with hashes
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra embedded pyproject.toml requirements-build.in -o requirements.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml requirements-build.in -c requirements.lock -o requirements-services.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev --extra embedded pyproject.toml requirements-build.in -c requirements.lock -o requirements-dev.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements-sbom.in -o requirements-sbom.lock

clean: ## Remove the environment, caches and the local pipeline's data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info build $(STAGELINE_DATA_DIR)
