# epsim: `make demo` and `make test` set everything up by themselves; they need Python >= 3.11 and make only.
PYTHON ?= $(firstword $(foreach p,python3.13 python3.12 python3.11 python3,$(if $(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && command -v $(p)),$(p))))
VENV := .venv
BIN := $(VENV)/bin
SIZES := 64,128,...,2048
EP := 16,32,64,128,256,320

.PHONY: help demo test check bench validate docs wheel clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The dependency group `dev` holds what tests and checks need.
$(VENV)/ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; install it, or set PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

demo: $(VENV)/ready ## compare CloudMatrix384, Ascend 910B and H800: training 64..2,048 chips, decode EP 16..320
	$(BIN)/epsim sweep dsv3-scaling-cloudmatrix384 dsv3-scaling-910b dsv3-scaling-h800 --over cluster.chips=$(SIZES) \
	    --out out/demo-training --title "DeepSeek-V3 training, one plan on three machines"
	$(BIN)/epsim sweep dsv3-decode-cloudmatrix384 dsv3-decode-910b dsv3-decode-h800 --over plan.expert=$(EP) \
	    --set workload.batch_per_rank=32 --out out/demo-decode --title "DeepSeek-V3 decode, 32 sequences of 4K per rank"

test: $(VENV)/ready ## run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile -q

check: $(VENV)/ready ## lint, format, types, import contract, architecture caps
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/architecture tests/unit/test_catalogue.py

bench: $(VENV)/ready ## time the main jobs
	$(BIN)/python -m pytest -q -s tests/benchmarks/bench_*.py

validate: $(VENV)/ready ## predicted against published, table and picture
	$(BIN)/epsim validate --out out/validation

docs: $(VENV)/ready ## regenerate the command reference and the validation table in README.md
	$(BIN)/python -m simulator.cli.reference README.md

wheel: $(VENV)/ready ## build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation

clean: ## remove the environment and generated output
	rm -rf $(VENV) out dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
