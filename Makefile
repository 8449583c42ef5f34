# Two commands on a fresh machine: `make run` and `make test`. They need Python 3.11 and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= runs/digits-$(shell date +%Y%m%d-%H%M%S)
NATIVE := src/picojoule/kernels/native
KERNELS := hatch_build.py $(NATIVE)/build.py $(wildcard $(NATIVE)/*.cpp $(NATIVE)/*.h)

.PHONY: help run test tables peers bench clean

help:
	@echo "make run     set up .venv, train and compare on the built-in digits, say where the report is"
	@echo "make test    set up .venv, then lint, types and tests"
	@echo "make tables  regenerate the tables in README and docs from results/"
	@echo "make peers   install other SNN libraries and counters into .peers, compare with them, record what they report"
	@echo "make bench   time picojoule beside the peers in .peers, record to results/speed.jsonl, write docs/performance.md"
	@echo "make clean   remove .venv and caches (runs/ is kept)"

$(READY): pyproject.toml constraints.txt $(KERNELS)
	@echo "== setting up $(VENV) (torch for the CPU, about a minute; later calls reuse it)"
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "picojoule needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@$(BIN)/picojoule doctor | grep '^kernels'
	@touch $@

run: $(READY)
	@echo "== comparing an ANN with spiking networks on the built-in digits, three seeds (about a minute)"
	$(BIN)/picojoule compare --data digits --seeds 0,1,2 --out $(OUT)

test: $(READY)
	@echo "== lint"
	$(BIN)/ruff check src tests tools benchmarks recipes
	$(BIN)/ruff format --check src tests tools benchmarks recipes
	@echo "== types"
	$(BIN)/pyright
	$(BIN)/python tools/no_cuda.py
	@echo "== tests"
	$(BIN)/python -m pytest -n 2

tables: $(READY)
	for file in $$(grep -rl --include='*.md' '^<!-- table:' README.md results docs); do \
		$(BIN)/picojoule report --update $$file || exit 1; \
	done

peers:
	PYTHON="$(PYTHON)" tools/install_peers.sh
	@echo "== comparing with the peers"
	.peers/bin/python -m pytest tests/peers
	@echo "== recording what they report to results/peers.jsonl"
	.peers/bin/python tools/run_peers.py

bench:
	PYTHON="$(PYTHON)" tools/install_peers.sh
	@echo "== timing every case (CASES=lif,time runs some of them)"
	.peers/bin/python -m benchmarks.speed $(if $(CASES),--cases $(CASES))
	.peers/bin/picojoule report --update docs/performance.md
	.peers/bin/picojoule report --update docs/execution.md

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
