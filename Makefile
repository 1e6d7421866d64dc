# Everything a developer types.  Each target sets up what it needs and is safe to repeat.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

# Tests are independent of each other; a process of them takes up to 2 GiB.
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 4 --dist worksteal

DEMO := suggest Qwen/Qwen2.5-VL-7B-Instruct --gpus 24GiB,12GiB --context 32768

SEEDS := 1 2 3 4 5

.PHONY: architecture pages demo maps maps-check test test-all properties attacks fuzz mutation lint format bench corpus sweep differential versions receipts gpu clean shuffle

demo: $(STAMP)
	$(BIN)/python -m devplan $(DEMO)

# The table and the maps in maps/ and their index anew, after a change that is meant to change them:
# minutes on two cores.  Some only: make maps MAPS="Qwen/Qwen3-8B google/gemma-3-4b-it".
maps: $(STAMP)
	$(BIN)/python -m tools.gallery $(MAPS)

# What is made from the code: pages of rules, reference and schema of the map file, facts of PyTorch,
# the diagram of the subpackages.  Tests fail until it was run.
pages architecture: $(STAMP)
	$(BIN)/python -m tools.pages

# Every map planned again and compared, checked with `devplan check`, the maps that must be refused, and
# a tiny checkpoint of every architecture loaded by its map: a quarter of an hour on two cores.
maps-check: $(STAMP)
	$(BIN)/python -m tools.gallery check $(MAPS)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) tests/gallery

test: lint
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow and not gpu"

test-all: lint
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not gpu"

# `make test` in five orders.  What a test leaves behind is found after each one, in any order
# (tests/leftovers.py).  One order: make shuffle SEEDS=3.
shuffle: $(STAMP)
	for seed in $(SEEDS); do \
		$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow and not gpu" \
			--random-order-bucket=global --random-order-seed=$$seed || exit 1; \
	done

# Solvers and planner against looking at every assignment: 10,000 random chains, graphs and machines
# for each property, about an hour of CPU; `make test` has a few hundred.
properties: $(STAMP)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) --hypothesis-profile explore tests/planning -m slow

# Every attack of tests/attacks/cases, the slow ones too, which `make test` leaves out: minutes.
attacks: $(STAMP)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) tests/attacks

# 20,000 spoilt inputs of a fresh seed, and their figures in docs/measurements/robustness.md: half an
# hour on two cores.  An interrupted run goes on: make fuzz FUZZ="--seed NAME".
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz $(FUZZ)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# All benchmarks, into docs/measurements/; some only: python -m benchmarks NAME.  `make test` runs each
# over less of everything (python -m benchmarks --small).
bench: $(STAMP)
	$(BIN)/python -m benchmarks

# Every model type over two virtual cards, into docs/coverage.md; half an hour on one core, and goes
# on where it was interrupted.  Packages that some types need have a folder of their own beside what
# is tested, without what they depend on: torch stays the one that devplan is tested with.
PACKAGES := build/packages
sweep: $(STAMP) $(PACKAGES)
	PYTHONPATH=$(PACKAGES) $(BIN)/python -m tools.sweep

# torchaudio's compiled part is built for CUDA, and its Python refuses one that does not load.
$(PACKAGES): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ \
		timm==1.0.31 torchvision==0.28.0 torchaudio==2.11.1 'scipy==1.17.1; python_version >= "3.11"'
	rm -rf $@/torchaudio/lib
	@touch $@

# What `devplan check` says of a map against what the map does: a tiny checkpoint of every model type,
# split over CPU and disk, loaded and run, into docs/differential.md; under an hour on two cores, and
# goes on where it was interrupted.  Some only: make differential DIFFERENTIAL="llama bert".
differential: $(STAMP) $(PACKAGES)
	PYTHONPATH=$(PACKAGES) $(BIN)/python -m tools.differential $(DIFFERENTIAL)

# The same plans with releases of transformers from the oldest supported to the newest, into
# docs/versions.md: a quarter of an hour, and the first time some hundred megabytes of packages.
versions: $(STAMP)
	$(BIN)/python -m tools.versions

# Predictions beside the memory that others measured on their GPUs, into docs/measurements/published.md:
# minutes on two cores.
receipts: $(STAMP)
	$(BIN)/python -m tools.receipts

# The tests that need a GPU, on a machine that has one.
gpu: $(STAMP)
	$(BIN)/python -m pytest -m gpu

# Real bugs of released versions, each tried where it was and where it no longer is: minutes, and
# the first time gigabytes of packages.  Some only: make corpus CORPUS="qwen2vl-rope-index".
corpus: $(STAMP)
	$(BIN)/python -m tools.corpus $(CORPUS)

# Would the tests notice a mistake?  A sample of mistakes, each made in a copy, into
# docs/measurements/mutation.md: hours on two cores, and goes on where it was interrupted.
# Others: make mutation SEED=7 SAMPLE=20.  The tool has a folder of its own beside what it tests.
MUTATION_TOOL := build/mutation/tool
SAMPLE ?= 100
SEED ?= 1
mutation: $(STAMP) $(MUTATION_TOOL)
	PYTHONPATH=$(MUTATION_TOOL) $(BIN)/python -m tools.mutation --sample $(SAMPLE) --seed $(SEED)

$(MUTATION_TOOL): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ \
		cosmic-ray==8.7.0 parso==0.8.7 stevedore==5.10.0
	@touch $@

# The stamp is younger than what it was made from: a second run installs nothing.  A virtual
# environment without pip is what an interrupted first run leaves behind: it is made anew.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("devplan needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo "Setting up $(VENV): the first time takes minutes, as torch is large."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
