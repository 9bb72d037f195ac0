# Everything happens in a virtual environment of its own: .venv, or wherever VENV says. README.md gives the same
# commands without make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test lint check bench instruments claims tutorials notebooks
.NOTPARALLEL:

# Train the English-to-French number translator and show what it does with numbers it has never seen. The second time:
# make demo ARGS=--resume (go on after Ctrl-C) or make demo ARGS=--overwrite (start anew).
demo: $(VENV)/.demo
	$(BIN)/minitransformer train numbers --source en --target fr $(ARGS)

# The whole test suite.
test: $(VENV)/.test
	$(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

# The benchmarks, beside PyTorch and, where it is installed, JAX: about an hour. One of them, and quickly:
# make bench ARGS="step --quick".
bench: $(VENV)/.bench
	$(BIN)/python -m tests.benchmarks $(ARGS)

# All instruments on one page, with pictures: build/instruments/index.html. It trains a few models for that, in about ten
# minutes; only to see it work: make instruments ARGS=--quick.
instruments: $(VENV)/.demo
	$(BIN)/python tutorials/instruments.py $(ARGS)

# Run every lesson in full and write what came out to tutorials/CLAIMS.md: a quarter of an hour.
claims: $(VENV)/.demo
	$(BIN)/python -m tutorials.claims

# Run the lessons and make pages of them that open without a network: build/site/index.html. That takes about 16
# minutes, and eight in the short form: make tutorials ARGS=--quick. The second time only what has changed is run.
tutorials: $(VENV)/.docs
	$(BIN)/python -m tutorials.pages $(ARGS)

# The lessons as notebooks that have not been run: build/notebooks.
notebooks: $(VENV)/.docs
	$(BIN)/python -m tutorials.pages --notebooks $(ARGS)

# Everything that has to pass before a change goes in.
check: lint test

# An empty file that is younger than pyproject.toml says that the installation is up to date.
$(VENV)/.demo: EXTRAS = draw
$(VENV)/.docs: EXTRAS = draw,docs
$(VENV)/.test: EXTRAS = draw,docs,test
$(VENV)/.bench: EXTRAS = draw,docs,test,bench
$(VENV)/.demo $(VENV)/.docs $(VENV)/.test $(VENV)/.bench: pyproject.toml
	@$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('$(PYTHON) is Python %d.%d, but 3.11 is needed. Try: make $(MAKECMDGOALS) PYTHON=python3.11' % sys.version_info[:2])"
	@$(PYTHON) -c "import ensurepip, venv" 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing into $(VENV); this can take a minute."
	@start=$$(date +%s) && \
	{ test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV); } && \
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]' && \
	touch $@ && \
	echo "Installed in $$(($$(date +%s) - start)) s."
