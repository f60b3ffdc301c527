# `make demo` and `make test` work on an empty machine with Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin
# a file of tests to a process, as many processes as cores, a thread each: threads of several processes would fight for cores
TEST := OMP_NUM_THREADS=1 $(RUN)/python -m pytest -n auto --dist loadfile

.PHONY: demo test test-slow check format clean

demo: .venv-demo/installed
	.venv-demo/bin/python scripts/demo.py examples demo-output

# what the demo installs is a copy: it is made again when the package changes
SOURCES := $(shell find src/rdae -type f -not -name '*.pyc')

.venv-demo/installed: pyproject.toml constraints.txt $(SOURCES)
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python -m pip install --quiet -c constraints.txt .
	touch $@

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet -c constraints.txt -e ".[train,dev]"
	touch $@

test: $(VENV)/installed
	$(TEST)

test-slow: $(VENV)/installed
	$(RUN)/python -m pytest -m slow

check: $(VENV)/installed
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy
	$(TEST)

format: $(VENV)/installed
	$(RUN)/ruff format .
	$(RUN)/ruff check --fix .

clean:
	rm -rf $(VENV) .venv-demo demo-output build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
