# The front door. `make` lists what there is to do; every target sets up .venv first if it must.
# make itself only orders the work: what is stale, and why, is for `python -m marwright` to say.

PY := .venv/bin/python

.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# An option where its value was given, and nothing where it was not.
MODEL_OPTION := $${MODEL:+--model="$$MODEL"}
JOBS_OPTION := $${JOBS:+--jobs="$$JOBS"}
PORT_OPTION := $${PORT:+--port="$$PORT"}
INPUT_OPTION := $${INPUT:+--input="$$INPUT"}
VERSION_OPTION := $${VERSION:+--version="$$VERSION"}

# One goal at a time, in the order they were typed: `make -j clean train` must not race. JOBS=n
# is what builds models side by side.
.NOTPARALLEL:

# What may be typed behind a goal. Of the environment, MARWRIGHT_MODEL and the like are read: what
# somebody exported as MODEL or VERSION for another program changes nothing here.
VARIABLES := MODEL JOBS PORT INPUT VERSION TORCH UPGRADE PYTHON QUICK ISA THREADS WHOLE
TYPED := $(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $v)),$v))
ifneq ($(filter-out $(VARIABLES),$(TYPED)),)
$(error $(filter-out $(VARIABLES),$(TYPED)): no such variable; there are $(VARIABLES))
endif

# A value reaches a recipe as an environment variable, and there stands in quotes: make never
# expands it and the shell never splits it, whatever is in it.
$(foreach v,$(VARIABLES),$(eval override $v := $$(value $(if $(filter $v,$(TYPED)),,MARWRIGHT_)$v))\
  $(eval $(if $(value $v),,un)export $v))

# A release is named by its tag or by its version: v1.2.0 and 1.2.0 are the same one.
override VERSION := $(patsubst v%,%,$(value VERSION))

PYTHON_NAMED := $(if $(value PYTHON),yes)

## Models (all of them, or MODEL=a,b; JOBS=n builds n at once, one a core without it)
##   make train      train and trace what is stale
##   make onnx       ... and export it to ONNX
##   make parity     ... prove that the traced module and the ONNX file answer as the checkpoint does;
##                   QUICK=1 is a look at it in a fraction of the time
##   make report     ... and draw what was measured: build/index.html and a page for each model
##   make archive    ... pack, verify and publish the archives to model_store/
##   make keep-worst keep the worst inputs that the gate found, to be committed: MODEL=name
##   make verify     check every output against its recorded hash; MODEL may name a file.mar too
##   make explain    say for each step whether it is current, and if not what changed
##   make list       models, versions, metrics and state
BUILD := train onnx parity report archive verify

# Several verbs are one run: the first one typed does the work for all of them.
WANTED := $(filter $(MAKECMDGOALS),$(BUILD))
LEAD := $(firstword $(filter $(BUILD),$(MAKECMDGOALS)))

# A look at the gate is for `parity` alone, and only for who says yes to it.
YES_TO_QUICK := $(filter 1 yes true,$(value QUICK))
QUICK_OPTION := $(if $(filter-out parity,$(WANTED)),,$(if $(YES_TO_QUICK),--quick))

.PHONY: $(BUILD)
ifneq ($(LEAD),)
$(LEAD): setup
	@$(PY) -m marwright $(WANTED) $(MODEL_OPTION) $(JOBS_OPTION) $(QUICK_OPTION)

$(filter-out $(LEAD),$(WANTED)): $(LEAD)
	@:
endif

.PHONY: keep-worst explain list
keep-worst: setup
	@$(PY) -m marwright keep-worst $(MODEL_OPTION)

explain: setup
	@$(PY) -m marwright explain $(MODEL_OPTION)

list: setup
	@$(PY) -m marwright list $(MODEL_OPTION)

## Looks at a recipe
##   make summary    the layers, what trains, from when and at which rate; MODEL=a,b
##   make lr-find    try learning rates for a moment, and draw how the loss falls; MODEL=a,b
##   make study      the recipe and its variants over several seeds; MODEL=a,b JOBS=n
.PHONY: summary lr-find study
summary: setup
	@$(PY) -m marwright summary $(MODEL_OPTION)

lr-find: setup
	@$(PY) -m marwright lr-find $(MODEL_OPTION)

study: setup
	@$(PY) -m marwright study $(MODEL_OPTION) $(JOBS_OPTION)

## Serving
##   make serve      run TorchServe on model_store/ until ctrl-c; MODEL=a,b PORT=n
##   make stop       stop that server
##   make predict    ask it: MODEL=name INPUT=file PORT=n
.PHONY: serve stop predict
serve: setup
	@$(PY) -m marwright serve $(MODEL_OPTION) $(PORT_OPTION)

stop: setup
	@$(PY) -m marwright stop

predict: setup
	@$(PY) -m marwright predict $(MODEL_OPTION) $(INPUT_OPTION) $(PORT_OPTION)

## Releases
##   make release    build all from nothing, run every gate, fill dist/; VERSION=1.2.0
##   make publish    attach dist/ to the release of tag v1.2.0, with the gh command; VERSION=1.2.0
.PHONY: release publish
release: setup
	@$(PY) -m marwright release $(VERSION_OPTION) $(JOBS_OPTION)

publish:
	@sh ci/publish.sh

## This repository
##   make setup      fill .venv; TORCH=cpu or TORCH=lock picks the torch, PYTHON=python3.12 the Python
##   make doctor     what is installed, what is wrong, and the fix
##   make lint       style, types and the tests that need no torch: under two minutes
##   make test       all that must hold at each change, a real server included
##   make test-isa   the numeric tests and the recipes as on other x86-64 processors, with 1 and 2
##                   threads; ISA=avx2 THREADS=1 is one of them, WHOLE=1 is all tests
##   make wheel      the wheel and the sdist of marwright, to dist/
##   make prove      the long proofs: kills, seeds, figures
##   make bench-train     how fast an epoch is, beside a bare loop and Lightning's Trainer
##   make bench-parity    how long the parity gate takes, and in how much memory
##   make bench-decode    how long the costliest images of each format take
##   make bench-memory    the server's memory under large requests
##   make bench-archive   how fast archives are written and verified, beside other tools
##   make lock       rewrite requirements.lock from pyproject.toml; UPGRADE=1 takes newer versions
##   make schema     rewrite the schema of recipes, docs/reference/recipes.md and parity.schema.json
##   make clean      remove build/, model_store/ and dist/, unless something is at work on them
.PHONY: help setup doctor style lint test test-isa wheel prove bench-archive bench-parity bench-train lock schema clean bench-decode bench-memory
help:
	@sed -n 's/^## \{0,1\}//p' Makefile

# A finished set-up costs Make two file times. The script looks closer when a person says which
# Python or torch they mean, and when the Python has gone.
setup: .venv/.installed

.venv/.installed: requirements.lock
	@sh ci/setup.sh

ifneq ($(value TORCH)$(PYTHON_NAMED),)
.venv/.installed: FORCE
export PYTHON_NAMED
else ifeq ($(realpath $(PY)),)
.venv/.installed: FORCE
endif

FORCE:

requirements.lock:
	@echo "requirements.lock is missing: git checkout requirements.lock, or make lock" >&2; exit 1

# Runs on the system's Python when .venv cannot, to say that this is what is wrong.
doctor:
	@python=$(PY); "$$python" -c '' 2>/dev/null || python=$${PYTHON:-python3}; \
	PYTHONPATH=src "$$python" -m marwright.cli.doctor

style: setup
	@.venv/bin/ruff check --quiet
	@.venv/bin/ruff format --check --quiet
	@$(PY) -m mypy

# A worker takes up to 4 GiB when its test builds a model: no more than four of them. Plain
# `pytest` runs one test after another, as a debugger needs it.
TOGETHER := --numprocesses=logical --maxprocesses=4 --dist=worksteal

lint: style
	@$(PY) -m pytest $(TOGETHER) -m "not torch and not onnx and not serve and not slow"

test: style
	@$(PY) -m pytest $(TOGETHER) -rs

# Not an hour's work by accident: WHOLE is for a yes.
ISA_OPTION := $${ISA:+--isa="$$ISA"}
THREADS_OPTION := $${THREADS:+--threads="$$THREADS"}
WHOLE_OPTION := $(if $(filter 1 yes true,$(value WHOLE)),--whole)

test-isa: setup
	@$(PY) -m bench.isa $(ISA_OPTION) $(THREADS_OPTION) $(WHOLE_OPTION)

# A wheel is dated 1980, as archives are: the same sources make the same bytes.
wheel: setup
	@SOURCE_DATE_EPOCH=315532800 .venv/bin/uv build --quiet --offline --no-build-isolation --python $(PY) --out-dir dist

prove: setup
	@$(PY) -m bench

bench-train: setup
	@$(PY) -m bench train_speed

bench-parity: setup
	@$(PY) -m bench gate_speed

bench-decode: setup
	@$(PY) -m bench decoding

bench-memory: setup
	@$(PY) -m bench memory

bench-archive: setup
	@$(PY) -m bench archive_speed verify_speed

lock:
	@sh ci/setup.sh lock

schema: setup
	@$(PY) -m marwright.recipe.schema
	@$(PY) -m marwright.parity.schema

clean:
	@if $(PY) -c 'import marwright.cli.clean' 2>/dev/null; then \
	$(PY) -m marwright clean ; else \
	echo "clean: removing build/, model_store/ and dist/" && rm -rf build model_store dist; fi
