# Every target sets up what it needs in a virtual environment, with uv where it is found, else with pip. Nothing is done
# again while nothing changed. `make UV= TARGET` uses pip all the same.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEFAULT := core toolkit testing registry verbs plugins/standard plugins/neighbours plugins/iddiff plugins/pullback plugins/scoregeometry plugins/nonuniform plugins/conditional plugins/scorevae plugins/caflow plugins/allocation plugins/audit plugins/flowmatching plugins/checkpoints plugins/models templates
OPTIONAL := plugins/dask plugins/tracking
# npm bundles the page of explore, so explore is installed where npm is found.
PAGED := plugins/explore
ifneq ($(shell command -v npm 2>/dev/null),)
PAGE := $(PAGED)
endif
MEMBERS := $(DEFAULT) $(OPTIONAL) $(PAGE)
LONG := benchmarks/unets.py benchmarks/gpu.py benchmarks/images.py benchmarks/dimensions.py benchmarks/growth.py benchmarks/audit.py benchmarks/score_geometry_images.py benchmarks/solvers.py benchmarks/flow_defaults.py
ifeq ($(origin UV),undefined)
UV := $(shell command -v uv 2>/dev/null)
endif
# Python compiles modules as they are imported: to compile them all here would take half a minute and 0.2 GB.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
ifeq ($(UV),)
ADD := $(PIP)
else
# uv reads no variable of pip, so those that choose packages are passed on. It looks into every index, as pip does.
ADD := $(UV) pip install --quiet --python $(BIN)/python --index-strategy unsafe-best-match $(addprefix --index-url ,$(PIP_INDEX_URL)) $(addprefix --extra-index-url ,$(PIP_EXTRA_INDEX_URL)) $(addprefix --find-links ,$(PIP_FIND_LINKS)) $(addprefix --constraint ,$(PIP_CONSTRAINT))
endif

export OMP_NUM_THREADS ?= 1
# Set, it would have every process compile again what pip left, and our sources.
unexport PYTHONDONTWRITEBYTECODE

# Two installations at once into one environment would disturb each other.
.NOTPARALLEL:
.PHONY: counts help install demo test heavy costs quick coverage attack mutate slow gpu models matrix portable lowest lint format docs gallery bench known dist clean bridges run-bridges

help:  ## What there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	@echo "== creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Scorefold needs Python 3.11 or later; run: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(if $(UV),--without-pip) $(VENV)

# The pip that comes with Python 3.11 takes twice the time of a later version.
$(VENV)/tools: | $(BIN)/python
	@$(ADD) --upgrade pip hatchling editables
	@touch $@

# Members are linked, so an edit takes effect. Only members whose manifest changed are built and linked again. pip
# replaces one after another, each in some milliseconds; uv removes all before it writes the first.
define link
	@echo "== linking members into $(VENV)"
	@$(PIP) --no-deps --no-build-isolation $(patsubst %pyproject.toml,-e ./%,$?)
	@touch $@
endef

$(VENV)/linked: pyproject.toml $(DEFAULT:%=%/pyproject.toml) | $(VENV)/tools
	$(link)

$(VENV)/linked-optional: $(OPTIONAL:%=%/pyproject.toml) | $(VENV)/tools
	$(link)

$(VENV)/linked-page: $(PAGED:%=%/pyproject.toml) | $(VENV)/tools
	$(link)

# Members are there already, so that pip adds packages of others and replaces no member.
$(VENV)/installed: $(VENV)/linked
	@echo "== installing what Scorefold requires into $(VENV) (about half a minute at first: torch is large)"
	@$(ADD) scorefold
	@touch $@

$(VENV)/installed-lint: $(VENV)/installed
	@echo "== installing what lint needs into $(VENV)"
	@$(ADD) 'scorefold[lint]'
	@touch $@

# The extras of explore that a target needs besides.
EXPLORE_test := test
EXPLORE_bridges := umap
FULL := $(addprefix $(VENV)/installed-,test bench docs bridges)
$(FULL): $(VENV)/installed-%: $(VENV)/installed $(VENV)/linked-optional $(PAGE:%=$(VENV)/linked-page)
	@echo "== installing what $* needs into $(VENV)"
	@$(ADD) 'scorefold[$*]' $(PAGE:%='scorefold-explore[$(EXPLORE_$*)]')
	@touch $@

$(VENV)/installed-release: $(VENV)/tools
	@$(ADD) build twine check-wheel-contents
	@touch $@

install: $(VENV)/installed  ## Install Scorefold and its plugins into .venv

demo: $(VENV)/installed  ## Ask four questions of a thousand images: dimension, paths, samples, copies
	@$(BIN)/scorefold demo

test: $(VENV)/installed-test  ## Run every test but the heavy and the slow ones
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q

heavy: $(VENV)/installed-test  ## Run the tests of tests/heavy.txt: the site, long pages, plugins from templates and others of 0.8 CPU seconds and more
	@$(BIN)/python -m pytest -n 2 --dist loadfile -q -m heavy

# Explore's bridge to UMAP needs no page, so this environment has explore without npm too.
bridges:  ## Run the tests of what connects to other libraries, in an environment of its own that has all of them
	@SCOREFOLD_EXPLORE_PAGE=none $(MAKE) --no-print-directory VENV=.venvs/bridges PAGE=$(PAGED) run-bridges

run-bridges: $(VENV)/installed-bridges
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q -m "needs and not slow" --bridges

costs: $(VENV)/installed-test  ## Measure the CPU time of each test, and write which ones are heavy
	@$(BIN)/python .ci/costs.py

quick: $(VENV)/installed-test  ## Run the tests that a change touches, for at most 90 seconds
	@$(BIN)/python .ci/quick.py

coverage: $(VENV)/installed-test  ## Run every test but the slow ones, and say which lines none of them runs
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not slow" --cov --cov-report=json --cov-report=term:skip-covered

attack: $(VENV)/installed-test  ## Kill, signal and damage runs 100 times each, and break 1000 files of each sort (COUNT=1000 for more)
	@$(BIN)/python tests/attack.py --count $(or $(COUNT),100)
	@$(BIN)/python tests/attack_workers.py --kills $(or $(COUNT),100) --resumes $(or $(COUNT),100)
	@SCOREFOLD_FUZZ_TIMES=5 $(BIN)/python -m pytest -q -m "not slow" tests/test_fuzz_run_files.py tests/test_fuzz_artefacts.py tests/test_hostile_names.py tests/test_bad_packages.py registry/tests/running/test_interruption.py registry/tests/test_hostile_artefacts.py registry/tests/running/test_hostile_run_files.py

mutate: $(VENV)/installed-test  ## Change formulas one at a time, and say which changes no test notices (COUNT=400 SEED=0 ONLY=path PART=path)
	@$(BIN)/python tests/mutate.py --written --count $(or $(COUNT),400) --seed $(or $(SEED),0) --results $(VENV)/mutated.jsonl \
	  $(if $(ONLY),--only '$(ONLY)') $(if $(PART),--part '$(PART)')

slow: $(VENV)/installed-test  ## Run the tests that train for minutes, some on Debian's dataset-fashion-mnist
	@.ci/debian dataset-fashion-mnist
	@$(BIN)/python -m pytest -n 2 -q -m slow

models: $(VENV)/installed-test  ## Train the models of scorefold-models from seeds, and write them into it (half an hour of CPU)
	@.ci/debian dataset-fashion-mnist
	@$(BIN)/python plugins/models/make/make.py

gpu: $(VENV)/installed-test  ## Check everything on an accelerator: components, a resumed training, mixed precision; and time it
	@$(BIN)/python benchmarks/gpu.py

matrix:  ## make test on every Python from 3.11 to 3.14 that is found, each in an environment of its own
	@$(PYTHON) .ci/matrix.py

portable: $(VENV)/installed-test  ## make test as other machines run it: other instructions, threads, users, folders, languages, seeds
	@$(BIN)/python .ci/portable.py $(if $(COMMIT),--of $(COMMIT)) $(NAMES)

lowest:  ## make test on Python 3.11 with the lowest version of every requirement
	@$(PYTHON) .ci/matrix.py --lowest

lint: $(VENV)/installed-lint  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(addsuffix /src,$(MEMBERS)) docs/scorefold_site benchmarks

format: $(VENV)/installed-lint  ## Format the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

docs: $(VENV)/installed-docs  ## Build the documentation into site/, which opens from disk
	@PYTHONPATH=docs $(BIN)/python -m scorefold_site.build site

gallery: $(VENV)/installed-docs  ## Run the examples that changed and make their cards of the gallery
	@PYTHONPATH=docs $(BIN)/python -m scorefold_site.gallery

bench: $(VENV)/installed-bench  ## Time Scorefold side by side with its peers
	@for file in $(filter-out $(LONG),$(wildcard benchmarks/[a-z]*.py)); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

counts: $(VENV)/installed-test  ## Write the counts of docs/architecture.md: what a run executes, and the size of each folder
	@$(BIN)/python benchmarks/walk.py --write

known: $(VENV)/installed-test  ## Write what our plugins offer, for the errors that name one that is missing
	@$(BIN)/python .ci/known.py

dist: $(VENV)/installed-release  ## Build and check every distribution, and try them in an empty environment
	@$(BIN)/python .ci/dist.py

clean:  ## Remove build outputs, runs and the cache (not .venv)
	rm -rf dist build site .pytest_cache .mypy_cache .ruff_cache runs .scorefold
