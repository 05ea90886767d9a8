# Requires make and Python 3.11 or newer with venv. Everything else is installed in .venv and .tools
# at the first call, and again when a file with versions has changed.
#   make test PYTHON=python3.13       make test ARGS='-k gate -x'       make demo ARGS=--keep

PYTHON ?= python3
# Arguments for the program that the target runs: pytest, the benchmark or the demo.
ARGS ?=
JOBS ?= 2

# The files of the repository are UTF-8, whatever the locale is.
export PYTHONUTF8 := 1

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
PINNED := $(VENV)/.pinned
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
TOOLS := .tools/.ready
COMPOSE := .tools/compose/.ready
TYPED := $(wildcard riskmon tests bench dashboards compose docs)

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help test test-fast test-full simulate lint bench demo dashboards docs pin clean

help:
	@echo 'make demo       a demonstration on this machine: an exchange slows down, trading is halted'
	@echo 'make test       lint, types and all tests, with a real Prometheus and Alertmanager'
	@echo 'make test-fast  lint, types and the quick tests, in about a minute'
	@echo 'make test-full  make test, and the tests that need docker-compose'
	@echo 'make simulate   5,000 seeds of the simulation; ARGS="FIRST END" for others'
	@echo 'make lint       lint and types'
	@echo 'make bench      the benchmarks; with ARGS="--against COMMIT engine", compared with a commit'
	@echo 'make dashboards build the JSON of the dashboards from their YAML'
	@echo 'make docs       write the tables of docs/reference from the code, and build the site'
	@echo 'make pin        update the pinned versions of all dependencies'
	@echo 'make clean      remove all generated files'

# -- set-up ---------------------------------------------------------------------------------

# A new environment each time, so that packages of an older list do not remain.
$(PINNED): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "riskmon needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + ". Name a newer one: make PYTHON=python3.13")'
	@echo 'Setting up $(VENV) ...'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install -q -r requirements.txt
	@touch $@

$(RUNTIME): $(PINNED) pyproject.toml
	@$(PIP) install -q --no-deps -e .
	@touch $@

$(DEV): $(PINNED) requirements-dev.txt requirements-nodeps.txt
	@echo 'Setting up the tools for tests ...'
	@$(PIP) install -q -r requirements-dev.txt
	@$(PIP) install -q --no-deps -r requirements-nodeps.txt
	@touch $@

$(TOOLS): .ci/debian-tools
	@echo 'Fetching Prometheus and Alertmanager into .tools ...'
	@.ci/debian-tools .tools prometheus prometheus-alertmanager
	@touch $@

$(COMPOSE): .ci/debian-compose
	@echo 'Fetching docker-compose into .tools/compose ...'
	@.ci/debian-compose .tools/compose
	@touch $@

# -- checks ---------------------------------------------------------------------------------

lint: $(RUNTIME) $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict $(TYPED)

test: lint $(TOOLS)
	REQUIRE_TOOLS=1 $(BIN)/pytest -q -n $(JOBS) $(ARGS)

test-fast: lint
	$(BIN)/pytest -q -n $(JOBS) -m 'not slow' $(ARGS)

test-full: lint $(TOOLS) $(COMPOSE)
	REQUIRE_TOOLS=1 TEST_FULL=1 $(BIN)/pytest -q -n $(JOBS) $(ARGS)

# Other seeds: make simulate ARGS="5000 20000". The trace of one seed: ARGS=17.
simulate: $(RUNTIME) $(DEV)
	$(BIN)/python -m tests.simulation --jobs $(JOBS) $(if $(ARGS),$(ARGS),0 5000)

# -- runs -----------------------------------------------------------------------------------

bench: $(RUNTIME) $(DEV)
	$(BIN)/python -m bench $(ARGS)

# The demo exits with 1 when trading was halted, as a supervised bot does; this is its success. A
# program that cannot start exits with 1 too, so the first line checks that it starts.
demo: $(RUNTIME)
	@$(BIN)/riskmon demo --help >/dev/null
	@$(BIN)/riskmon demo $(ARGS); status=$$?; \
	case $$status in \
	1) echo 'make demo: success. The demo exited 1: trading was halted, as it should be.' ;; \
	0) echo 'make demo: failure. The demo exited 0: trading was never halted.' >&2; exit 1 ;; \
	*) echo "make demo: failure. The demo exited $$status; only 1, trading halted, is success." >&2; \
	   exit $$status ;; \
	esac

# -- generated files that are committed -----------------------------------------------------

dashboards: $(DEV)
	$(BIN)/python -m dashboards.build

# Downloads nothing, neither at the build nor in a browser that shows the site.
docs: $(RUNTIME) $(DEV)
	$(BIN)/python -m docs.generate
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir build/site
	@echo 'The site is build/site/index.html.'

# -- maintenance ----------------------------------------------------------------------------

# To be run on the oldest supported Python, so that the lists include what only that one needs.
pin:
	$(PYTHON) -m venv --clear .venv-pin
	.venv-pin/bin/python -m pip install -q --upgrade pip
	.venv-pin/bin/python -m pip install -q .
	{ head -n 1 requirements.txt; \
	  .venv-pin/bin/python -m pip freeze --exclude riskmon; } > .venv-pin/requirements.txt
	.venv-pin/bin/python -m pip install -q --group dev
	{ head -n 2 requirements-dev.txt; .venv-pin/bin/python -m pip freeze --exclude riskmon \
	  | grep -vxFf .venv-pin/requirements.txt; } > .venv-pin/requirements-dev.txt
	mv .venv-pin/requirements.txt .venv-pin/requirements-dev.txt .
	rm -rf .venv-pin

clean:
	rm -rf .venv .venv-pin .tools .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
