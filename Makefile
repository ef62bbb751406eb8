# make demo: set up .venv and run the main job on a made-up corpus. make test: set up and test.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.setup-done
S3PRL := .venv/s3prl
# One process per core; more threads than cores only fight.
export OMP_NUM_THREADS ?= 2

.PHONY: setup s3prl demo test torture lint types floors unit format clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "serfeat needs Python 3.11 or newer: make setup PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev,demo,ray,s3,augment]'
	@touch $(STAMP)

# s3prl for the parity tests, in a folder of its own: its torchaudio would break transformers.
s3prl: $(S3PRL)/.setup-done

$(S3PRL)/.setup-done: $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[s3prl]'
	$(BIN)/python -m pip install -q --no-deps --upgrade --target $(S3PRL) -c constraints.txt torchaudio s3prl
	@touch $@

demo: setup
	$(BIN)/serfeat demo demo

test: lint types floors unit

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

floors: setup
	$(BIN)/lint-imports

unit: setup s3prl
	SERFEAT_S3PRL=$(S3PRL) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q

# Hours of bad luck in minutes: kills, full disks, flipped bits; writes benchmarks/results.
torture: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/torture.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv demo dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
