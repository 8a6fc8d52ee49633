# Everything a fresh machine needs is Python 3.11+ and make. `make demo` and `make test` make the
# environment themselves; the stamps below remember what is installed.
PYTHON ?= python3
BACKENDS ?= tensorflow jax
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
# Two files at a time, the long ones first (tests/conftest.py).
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test check format clean
help:
	@echo "make demo    the built-in study; the report is build/demo/report.html"
	@echo "make test    the tests, on TensorFlow and JAX (BACKENDS=\"tensorflow jax torch\" for all three)"
	@echo "make check   linter, formatter, type checker"

$(STAMPS)/venv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "litesmith needs Python 3.11 or newer; this is " + sys.version.split()[0] + " (set PYTHON=…)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@mkdir -p $(STAMPS) && touch $@

# What the demo needs.
$(STAMPS)/demo: $(STAMPS)/venv pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[tensorflow]"
	@touch $@

# The CPU build that was tried; a plain `torch` may bring gigabytes of GPU libraries.
$(STAMPS)/torch: $(STAMPS)/venv
	$(BIN)/python -m pip install --quiet "torch==2.13.0"
	@touch $@

$(STAMPS)/dev: $(STAMPS)/venv $(if $(filter torch,$(BACKENDS)),$(STAMPS)/torch) pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[tensorflow,jax,dev]"
	@touch $@

demo: $(STAMPS)/demo
	@rm -rf build/demo
	KERAS_BACKEND=tensorflow $(BIN)/litesmith study -o build/demo
	@echo "report: $(abspath build/demo/report.html)"

# All tests on the first backend; on the others those that Keras has a part in.
test: $(STAMPS)/dev
	@set -e; marker=""; for backend in $(BACKENDS); do \
		echo "== tests on $$backend"; \
		KERAS_BACKEND=$$backend $(BIN)/python -m pytest -q $$marker $(PYTEST_ARGS); \
		marker="-m every_backend"; \
	done

check: $(STAMPS)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMPS)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build .venv
