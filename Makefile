# `make train` and `make test` work on a bare machine with Python 3.11 or newer and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/flavars

.PHONY: train reproduce test test-parity test-export lint data clean

train: $(VENV)/.run
	$(BIN)/python -m flavars_jax.main --config=configs/flavars.py --workdir=$(WORKDIR)

# The papers' claims in small: four hours of two cores; what is done stays done.
reproduce: $(VENV)/.run
	$(BIN)/python -m reproduce --workdir=runs/claims --page=docs/claims.md

data: $(VENV)/.run
	$(BIN)/python -m rsvl_jax.datasets build --data_dir=data

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Beside PyTorch and transformers: in an environment of one's own that has them, or in $(VENV).
PARITY_PYTHON ?= $(BIN)/python
test-parity: $(if $(filter $(BIN)/python,$(PARITY_PYTHON)),$(VENV)/.parity)
	XLA_FLAGS= $(PARITY_PYTHON) -m pytest -m parity tests/weights/parity

# The run of `make train`, exported, predicts the same in transformers.
test-export: $(if $(filter $(BIN)/python,$(PARITY_PYTHON)),$(VENV)/.parity)
	test -f $(WORKDIR)/scores.json || $(MAKE) train
	$(PARITY_PYTHON) tests/weights/compare_export.py --workdir=$(WORKDIR)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.run: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --no-deps -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/.test: $(VENV)/.run requirements-test.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-test.txt
	touch $@

$(VENV)/.parity: $(VENV)/.test requirements-parity.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-parity.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps geoclip==1.3.0
	touch $@

clean:
	rm -rf $(VENV) runs
