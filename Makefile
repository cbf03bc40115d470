# make demo   real CT, five organs, a simulated user: the whole of limnet in one command
# make test   the whole test suite
# make docs   the documentation with its API reference, as pages in out/docs
# make reproduce   recipes/reproduce.sh on small stand-ins of data and weights, into out/reproduction
# make analyses DATA=folder   the measurements of benchmarks/README.md on a folder with manifest.json; -j2 for two at once
# Needs Python 3.10 or newer, git and a package registry that pip can reach. Everything goes into .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip --disable-pip-version-check
TORCH  := $(shell grep -E '^torch==' constraints.txt)
OUT    ?= out/demo
WORKERS ?= 2
export PIP_DEFAULT_TIMEOUT ?= 120
unexport PYTHONDONTWRITEBYTECODE  # without bytecode every process of the suite compiles the library and the tests anew

MODEL   ?= limnet-tiny
RESULTS ?= benchmarks/results
PICK    ?= --per-case 8 --per-group 16
# Lighter ones last; cost is not among them, for it wants the machine to itself.
ANALYSES := robustness ablations mrf-rounds suggest calibration interaction2d-slices

.PHONY: demo test docs reproduce lint clean help analyses cost $(ANALYSES:%=analysis-%)

help:
	@sed -n '1,6p' Makefile

$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV)

# torch first and alone: pip then takes the wheel that this machine is set up for, and the rest keeps it.
$(VENV)/.torch: constraints.txt | $(VENV)/pyvenv.cfg
	$(PIP) install -q "$(TORCH)"
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(PIP) install -q -c constraints.txt -e '.[report,view]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.torch pyproject.toml
	$(PIP) install -q -c constraints.txt -e '.[docs]'
	@touch $@

demo: $(VENV)/.demo
	$(VENV)/bin/limnet demo --out $(OUT)

# One thread per worker: torch would otherwise start one team of threads per worker and they would fight for the cores.
# Half of the tests each, in order, then what the other has left: hardly a fixture of a file is made twice.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

# Strict: a broken link or a name in the reference that does not exist ends it.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build -q

reproduce: $(VENV)/.dev
	rm -rf out/reproduction
	PYTHON=$(abspath $(PY)) OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 recipes/reproduce.sh --fakes --out out/reproduction

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

analyses: $(ANALYSES:%=analysis-%)

$(ANALYSES:%=analysis-%): analysis-%: $(VENV)/.demo
	@test -n "$(DATA)" || { echo "say where the data is: make analyses DATA=folder-with-manifest.json" >&2; exit 2; }
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(VENV)/bin/limnet bench $* --data $(DATA) --model $(MODEL) --out $(RESULTS) $(PICK)

cost: $(VENV)/.demo
	$(VENV)/bin/limnet bench cost --model $(MODEL) --out $(RESULTS)

clean:
	rm -rf $(VENV) build dist out .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
