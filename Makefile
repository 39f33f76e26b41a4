# Weir. `make lab` shows the main job on this machine, `make test` passes every test; both install what is missing.
# Root is needed: network namespaces and eBPF programs are made for real.

CARGO ?= cargo
# One profile for the lab, the tests and development; `dist` is what is shipped and benchmarked.
BIN = target/release/weir
DIST = target/dist
# Each is a workspace of its own.
PLUGINS = $(patsubst %/Cargo.toml,%,$(wildcard plugins/*/Cargo.toml plugins/guests/*/Cargo.toml))
LANGUAGES = assemblyscript cpp go

# A test that cannot go on panics, and the type of its table of cases is the table's business.
TESTS_MAY = -A clippy::unwrap_used -A clippy::panic -A clippy::type_complexity

.PHONY: help lab test unit e2e build plugins dist bench compare check fmt fuzz setup clean

help: ## What there is
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: ## Install what building and testing need (Debian packages, eBPF linker, test runner)
	@./setup.sh

build: setup ## Build the binary (target/release/weir)
	$(CARGO) build --release --locked -p weir -p weir-lab

plugins: build ## Build the reference plugins and the guests of the tests (target/plugins)
	$(BIN) plugin build --locked --out target/plugins --target-dir target/plugins/build $(PLUGINS)
	./plugins/guests/languages/build.sh $(LANGUAGES)

lab: build ## A node with pods on this machine: builds it, sends requests, shows where they went, stays up
	$(BIN) lab

test: build plugins check ## Every test: unit, end-to-end with real eBPF in namespaces, the project's own rules
	for plugin in $(PLUGINS); do $(CARGO) test --quiet --locked --manifest-path $$plugin/Cargo.toml --target-dir target/plugins/native || exit 1; done
	$(BIN) plugin test $(wildcard plugins/*/tests.yaml)
	for language in $(LANGUAGES); do $(BIN) plugin test --plugin target/plugins/language-$$language.wasm plugins/guests/languages/tests.yaml || exit 1; done
	$(CARGO) nextest run --release --locked --workspace --no-fail-fast

unit: ## The tests that need neither root nor eBPF
	$(CARGO) nextest run --release --locked -p weir-core -p weir-config -p weir-ebpf-common -p weir-telemetry

e2e: build plugins ## The end-to-end stories only
	$(CARGO) nextest run --release --locked -p weir-e2e

check: setup ## Formatting and lints
	$(CARGO) fmt --all --check
	cd ebpf/programs && $(CARGO) fmt --check
	for plugin in $(PLUGINS); do $(CARGO) fmt --check --manifest-path $$plugin/Cargo.toml || exit 1; done
	$(CARGO) clippy --release --locked --workspace -- -D warnings
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings $(TESTS_MAY)

fmt: ## Format everything
	$(CARGO) fmt --all
	cd ebpf/programs && $(CARGO) fmt
	for plugin in $(PLUGINS); do $(CARGO) fmt --manifest-path $$plugin/Cargo.toml; done

dist: setup ## Build what is shipped (target/dist/weir)
	$(CARGO) build --profile dist --locked -p weir

bench: plugins ## Weir beside Envoy, nginx and HAProxy in one run (BENCH='--quick' to try it)
	./tests/bench/install.sh
	$(CARGO) build --profile dist --locked -p weir -p weir-bench
	$(DIST)/weir-bench $(BENCH)

compare: plugins ## What plugins do in Weir beside what they do in Envoy, request by request
	./tests/bench/install.sh
	$(CARGO) build --release --locked -p weir-bench
	target/release/weir-bench compare --weir $(BIN)

fuzz: setup ## Each fuzz target for a minute (FUZZ_SECONDS=600 for longer)
	./tests/fuzz/run.sh $(or $(FUZZ_SECONDS),60)

clean: ## Remove what was built
	$(CARGO) clean
	rm -rf ebpf/programs/target tests/fuzz/target
