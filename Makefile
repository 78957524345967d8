# Needs GNU make, Python 3.11 or newer and a C++ compiler; `make check-machine` says what is missing. Everything goes into $(VENV).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
# Where to take PyTorch from, if not from where pip looks anyway: .../whl/cpu or .../whl/xpu (see README).
TORCH_INDEX ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
QUICKSTART := examples/quickstart
comma := ,

KERNEL := $(wildcard kernels/*.cpp kernels/*.h kernels/*.pyx kernels/*.pxi kernels/CMakeLists.txt kernels/in_place/CMakeLists.txt)
# AIFW_NO_KERNEL=1 leaves the compiled search kernel out, and so needs no compiler; numpy does its work.
WITHOUT_KERNEL := $(filter 1 true yes on,$(AIFW_NO_KERNEL))

# Tests run two at a time; each with one thread, or they slow each other down. Nothing may ask the network for a model.
TEST_ENVIRONMENT := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
# One thread makes CPU seconds comparable between machines.
BENCH_ENVIRONMENT := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup check-machine demo test slow kernel-slow check-kernel-machine lint bench bench-peers bench-search schema clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## Make the environment in .venv

# The constraints bind the build environment too: through PIP_CONSTRAINT for pip before 25.3, PIP_BUILD_CONSTRAINT from then on.
INSTALL := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
    $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

# Where nothing but the kernel's sources changed, only aifw itself is built again.
$(READY): pyproject.toml constraints.txt $(KERNEL)
	@$(MAKE) --no-print-directory check-machine
	$(if $(filter pyproject.toml constraints.txt,$?), \
	    $(PYTHON) -m venv $(VENV) \
	    $(if $(TORCH_INDEX),&& $(BIN)/pip install --quiet --index-url $(TORCH_INDEX) "$$(grep '^torch==' constraints.txt)") \
	    && $(INSTALL) -e '.[train$(comma)evaluate$(comma)openvino$(comma)dev]', \
	    $(INSTALL) --no-deps -e .)
	@touch $@

check-machine:  ## Say what this machine lacks
	@test -n "$(PYTHON)" || { echo "Python is missing: install Python 3.11 (Debian, Ubuntu: apt install python3)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "$(PYTHON) is older than 3.11: install Python 3.11, or say make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	    || { echo "Python's venv is missing (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@test -n "$(WITHOUT_KERNEL)" \
	    || $(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
	    || { echo "Python's headers are missing (Debian, Ubuntu: apt install python3-dev); AIFW_NO_KERNEL=1 does without"; exit 1; }
	@test -n "$(WITHOUT_KERNEL)" || command -v "$${CXX:-c++}" >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null \
	    || { echo "a C++ compiler is missing (Debian, Ubuntu: apt install g++); AIFW_NO_KERNEL=1 does without"; exit 1; }

$(QUICKSTART)/feedback.db: $(QUICKSTART)/feedback.jsonl | $(READY)
	$(BIN)/aifw feedback import $< --into sqlite:///$@

demo: $(READY) $(QUICKSTART)/feedback.db  ## Train, measure and perhaps promote a small model on the quickstart's feedback
	@echo "aifw apply $(QUICKSTART)/spec.yaml --yes"; $(BIN)/aifw apply $(QUICKSTART)/spec.yaml --yes; status=$$?; \
	case $$status in \
	    0) ;; \
	    5) echo; echo "The gate said no, which is an answer: the candidate was not shown to be better, so the champion stays." ;; \
	    *) exit $$status ;; \
	esac

test: $(READY)  ## Run the tests that take minutes together
	$(TEST_ENVIRONMENT) $(BIN)/pytest -n 2 -m "not slow"

slow: $(READY)  ## Run the tests that take minutes each
	$(TEST_ENVIRONMENT) $(BIN)/pytest -m slow

kernel-slow: $(READY) check-kernel-machine  ## Run the search kernel's long tests: emulator, sanitizers, 100,000 queries
	$(TEST_ENVIRONMENT) $(BIN)/pytest -m slow tests/search

check-kernel-machine:  ## Say what this machine lacks for kernel-slow
	@missing=""; \
	command -v bochs >/dev/null || missing="$$missing bochs"; \
	command -v g++ >/dev/null || missing="$$missing g++"; \
	command -v objdump >/dev/null || missing="$$missing binutils"; \
	command -v cmake >/dev/null || missing="$$missing cmake"; \
	test -z "$$missing" || { echo "missing for these tests (Debian, Ubuntu): apt install$$missing"; exit 1; }
	@$(BIN)/python -c 'import simde_py' 2>/dev/null \
	    || grep -Eqs 'SIMDE_VERSION_MINOR ([89]|[1-9][0-9])' /usr/include/simde/simde-common.h /usr/local/include/simde/simde-common.h \
	    || { echo "missing for these tests: SIMDe 0.8 or newer; make setup brings it, or $(BIN)/pip install simde-py"; exit 1; }

lint: $(READY)  ## Style, types, import contracts, freshness of the published schemas
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m aifw.cli.schema --check

bench: $(READY)  ## Measure planning and the engine's overhead
	$(BENCH_ENVIRONMENT) $(BIN)/python benchmarks/plan.py
	$(BENCH_ENVIRONMENT) $(BIN)/python benchmarks/overhead.py

# In an environment of their own: their dependencies need not agree with ours.
bench-peers:  ## Install Snakemake and DVC, which the benchmarks are measured beside
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check snakemake dvc

# The kernel is the one that `setup` built beside the sources; the libraries it is measured beside have an environment of their own.
bench-search: $(READY) .venv-search/.ready  ## Measure exact search beside FAISS, numpy, torch, usearch and numkong
	@mkdir -p build
	.venv-search/bin/python benchmarks/search.py --save build/search.json --plot build/search.png

.venv-search/.ready: constraints.txt
	$(PYTHON) -m venv .venv-search
	$(if $(TORCH_INDEX),.venv-search/bin/pip install --quiet --index-url $(TORCH_INDEX) "$$(grep '^torch==' constraints.txt)")
	.venv-search/bin/pip install --quiet --disable-pip-version-check -c constraints.txt faiss-cpu matplotlib numkong numpy psutil \
	    safetensors threadpoolctl torch transformers usearch
	@touch $@

schema: $(READY)  ## Write the published schemas anew
	$(BIN)/python -m aifw.cli.schema --write

clean:  ## Remove the environment, caches, and what the demo made
	rm -rf $(VENV) .venv-peers .venv-search build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f aifw/search/_kernel.*.so
	find kernels/in_place -mindepth 1 ! -name CMakeLists.txt -delete
	rm -rf $(QUICKSTART)/.aifw $(QUICKSTART)/feedback.db
	find aifw tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
