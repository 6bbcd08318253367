# libpowerinfer. Two commands matter:
#
#   make run     builds everything, fetches a model once (98 MB), writes text
#   make test    all tests
#
# The rest is in `make help`. Needs: a Rust toolchain, a C compiler, GNU make; cmake and ninja are
# fetched by pip into target/ when they are missing.

MODEL  ?= $(DEFAULT_MODEL)
PROMPT ?= Once upon a time, in a village by the sea, there lived
ARGS   ?=
PREFIX ?= /usr/local
LIB    ?= lib
FUZZ_SECONDS ?= 600
API_FUZZ_SECONDS ?= 1800

DEFAULT_MODEL := models/smollm2-135m-instruct-Q4_1.gguf
VERSION       := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SOVERSION     := $(firstword $(subst ., ,$(VERSION)))

TARGET    := $(abspath $(or $(CARGO_TARGET_DIR),target))
BUILT     := $(TARGET)/release/libpowerinfer.so
# Another LIBRARY is taken as it is, and not built; with it WORK, where the C side is built.
LIBRARY   ?= $(BUILT)
WORK      ?= $(TARGET)/c
STAGE     := $(WORK)/stage
EXAMPLES  := $(WORK)/examples
TOOLS     := $(TARGET)/tools
COMPAT    := libllama.so libllama.so.0 libggml.so libggml.so.0 libggml-base.so libggml-base.so.0 \
             libggml-cpu.so libggml-cpu.so.0
PROGRAMS  := main simple batched tokenize quantize save-load-state parallel speculative chat gguf \
             batched-bench bench embedding imatrix infill lora perplexity retrieval

# What is on the machine goes first; the tools that make fetched fill the gaps.
export PATH := $(PATH):$(TOOLS)/bin

.PHONY: all help run test test-long clients clients-fetch contract bench gpu-bundle lint headers \
        install install-library uninstall clean library examples stage check tools model compat \
        kernels kernels-check

all: library examples

help:
	@echo 'make run          build, fetch the model once, write text'
	@echo '                  MODEL=file PROMPT="..." ARGS="--temp 0 -n 64" make run'
	@echo 'make test         all tests (POWERINFER_TEST_DATA=folder: with more reference data)'
	@echo 'make clients      llama-cpp-python, Node and Go on the library, fetched into target/'
	@echo 'make lint         formatting, clippy, documentation: no warnings'
	@echo 'make headers      write include/ again from src/ffi'
	@echo 'make kernels      write kernels/ptx/ again from kernels/*.cu; kernels-check compares, and'
	@echo '                  compiles for cards (NVRTC is fetched into target/)'
	@echo 'make bench        kernels; with PEER=folder MODELS="..." also against another libllama'
	@echo 'make gpu-bundle   a folder that checks and measures on an NVIDIA card of any machine'
	@echo 'make test-long    a model in all types (minutes); the server under load and nonsense (half an'
	@echo '                  hour); the thread pool under loom;'
	@echo '                  fuzzing (FUZZ_SECONDS=600 each, API_FUZZ_SECONDS=1800 of C calls)'
	@echo 'make contract     REFERENCE=folder: what its libllama answers, recorded for the tests'
	@echo 'make compat       SRC=llama.cpp source tree: builds 17 of its programs against this library'
	@echo '                  and runs each; COMMON=folder takes a finished libllama-common from there'
	@echo 'make install      PREFIX=/usr/local DESTDIR= LIB=lib; make uninstall takes it away'
	@echo 'make clean        remove what was built (models/ stays)'

# ---- building ----

check:
	@for tool in cargo:'a Rust toolchain, 1.95 or newer' cc:'a C compiler'; do \
	    command -v "$${tool%%:*}" >/dev/null || \
	        { echo "missing: $${tool%%:*} ($${tool#*:})" >&2; exit 1; }; \
	done

tools:
	@sh examples-c/scripts/tools.sh '$(TOOLS)'

library: check
ifeq ($(LIBRARY),$(BUILT))
	cargo build --release --lib
endif

# An installation inside target/: the examples are built against it, as users build against theirs.
stage: library
	@$(MAKE) --no-print-directory install-library PREFIX='$(STAGE)' DESTDIR= LIB=lib

examples: stage tools
	@[ -f '$(EXAMPLES)/build.ninja' ] || cmake -S examples-c -B '$(EXAMPLES)' -G Ninja \
	    -DCMAKE_PREFIX_PATH='$(STAGE)'
	@cmake --build '$(EXAMPLES)'

# ---- running ----

model: $(DEFAULT_MODEL)

$(DEFAULT_MODEL):
	@command -v python3 >/dev/null || \
	    { echo 'missing: python3 with pip, to fetch the model; or run: MODEL=file make run' >&2; exit 1; }
	@python3 examples-c/scripts/fetch-model.py '$@'

run: examples $(if $(filter $(DEFAULT_MODEL),$(MODEL)),$(DEFAULT_MODEL))
	@'$(EXAMPLES)/main' -m "$$MODEL" -p "$$PROMPT" -n 128 $(ARGS)

# Through the environment, so that no character of theirs is read by make or the shell.
export MODEL PROMPT

# ---- tests ----

# The C programs are among the tests, also under AddressSanitizer and UndefinedBehaviorSanitizer.
# Tests that need the model, or cmake, are skipped with a line when it cannot be fetched.
test: check
	@$(MAKE) --no-print-directory tools || echo 'no cmake and ninja: the tests that need them are skipped'
	@$(MAKE) --no-print-directory model || echo 'no model: the tests that need it are skipped'
	@if command -v cargo-nextest >/dev/null; then cargo nextest run; else cargo test --tests; fi
	cargo test --doc

# Programs that others wrote, and bindings. `make test` runs those too that are there already.
clients: check clients-fetch
	@$(MAKE) --no-print-directory model || echo 'no model: the clients that need it are skipped'
	@cargo test --test clients -- --nocapture

clients-fetch: tools
	@sh tests/clients/fetch.sh '$(TARGET)/clients'

test-long: check model
	POWERINFER_TEST_LONG=1 cargo test --test quant_perplexity
	POWERINFER_TEST_LONG=1 cargo test --test server -- --nocapture --test-threads 1
	POWERINFER_TEST_LONG=1 cargo test --test cuda_ops injected
	cargo test --manifest-path tests/loom/Cargo.toml --target-dir '$(TARGET)/loom'
	sh tests/fuzz/run.sh $(FUZZ_SECONDS)
	sh tests/fuzz/run.sh $(API_FUZZ_SECONDS) api_calls

# Records what the libllama of this folder answers to the lines of the behaviour contract.
contract: check
	@[ -f '$(REFERENCE)/libllama.so' ] || \
	    { echo 'REFERENCE=folder: one with the libllama.so to ask' >&2; exit 1; }
	UPDATE_CONTRACT=1 POWERINFER_TEST_LIBRARY='$(abspath $(REFERENCE))/libllama.so' \
	    cargo test --test contract

# Programs of the user's llama.cpp source tree, unedited, on this library.
compat: stage tools model
	@test -n '$(SRC)' || { echo 'usage: make compat SRC=/llama.cpp/source/tree' >&2; exit 1; }
	@python3 tests/compat/run.py --src '$(SRC)' --prefix '$(STAGE)' --build '$(WORK)/compat' \
	    --model '$(DEFAULT_MODEL)' $(if $(COMMON),--common '$(COMMON)') \
	    $(if $(PEER),--peer '$(PEER)') $(if $(ONLY),--only $(ONLY))

bench: check
	cargo bench
ifneq ($(PEER),)
	@$(MAKE) --no-print-directory stage
	python3 benches/peer/compare.py --ours '$(STAGE)/lib/powerinfer/compat' --peer '$(PEER)' \
	    --out '$(TARGET)/peer' $(or $(MODELS),$(DEFAULT_MODEL))
endif

# Everything that a machine with a card needs, which has its driver and a C library as new as this
# one: the report of gpu-check.sh is all that has to come back.
BUNDLE        := $(TARGET)/gpu-bundle
BUNDLE_MBYTES := 60

gpu-bundle: examples
	cargo build --release --example gpu_check --example make_sparse_model
	@rm -rf '$(BUNDLE)' && install -d '$(BUNDLE)/bin' '$(BUNDLE)/lib'
	@cmake --install '$(EXAMPLES)' --prefix '$(WORK)/installed' >/dev/null
	@for name in cuda_ops card_models; do \
	    suite=$$(cargo test --release --no-run --test $$name --message-format json | \
	        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p') && \
	    install -s -m 755 "$$suite" "$(BUNDLE)/bin/$$name" || exit 1; \
	done
	@install -s -m 755 '$(TARGET)/release/examples/gpu_check' \
	    '$(TARGET)/release/examples/make_sparse_model' \
	    $(foreach program,main bench,'$(WORK)/installed/lib/powerinfer/examples/$(program)') \
	    '$(BUNDLE)/bin/'
	@install -s -m 755 '$(LIBRARY)' '$(BUNDLE)/lib/libpowerinfer.so.$(SOVERSION)'
	@install -m 755 benches/gpu/gpu-check.sh '$(BUNDLE)/'
	@install -m 644 benches/gpu/README.md LICENSE '$(BUNDLE)/'
	@bytes=$$(cat '$(BUNDLE)'/*/* '$(BUNDLE)'/*.* | wc -c) && \
	    echo "$(BUNDLE): $$((bytes / 1000000)) MB; run gpu-check.sh there" && \
	    [ $$bytes -lt $(BUNDLE_MBYTES)000000 ] || { echo 'more than $(BUNDLE_MBYTES) MB' >&2; exit 1; }

lint: check
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' \
	    cargo doc --no-deps --document-private-items

# The test compares the committed headers with what cbindgen makes; with this variable it writes.
headers: check
	UPDATE_HEADERS=1 cargo test --test headers

# PTX is committed, so that building needs no CUDA tool. The check also compiles for each kind of
# card, and demands that no register spills to memory.
NVRTC := $(TARGET)/nvrtc

kernels: $(NVRTC)
	NVRTC_DIR='$(NVRTC)' python3 kernels/regen.py

kernels-check: $(NVRTC)
	NVRTC_DIR='$(NVRTC)' python3 kernels/regen.py --check --cubins

$(NVRTC):
	python3 -m pip install --quiet --no-deps --target '$@.part' nvidia-cuda-nvrtc-cu12==12.0.140
	mv '$@.part' '$@'

# ---- installing ----

ROOT := $(DESTDIR)$(PREFIX)
FILL := sed -e 's|@prefix@|$(PREFIX)|g' -e 's|@lib@|$(LIB)|g' \
            -e 's|@version@|$(VERSION)|g' -e 's|@soversion@|$(SOVERSION)|g'

install: examples install-library
	@cmake --install '$(EXAMPLES)' --prefix '$(WORK)/installed' >/dev/null
	@install -d '$(ROOT)/$(LIB)/powerinfer/examples' '$(ROOT)/bin' \
	    '$(ROOT)/share/powerinfer/examples-c'
	@for program in $(PROGRAMS) server; do \
	    [ -f "$(WORK)/installed/lib/powerinfer/examples/$$program" ] || continue; \
	    install -m 755 "$(WORK)/installed/lib/powerinfer/examples/$$program" \
	        '$(ROOT)/$(LIB)/powerinfer/examples/' && \
	    ln -sf "../$(LIB)/powerinfer/examples/$$program" "$(ROOT)/bin/powerinfer-$$program"; \
	done
	@install -m 644 examples-c/*.c examples-c/*.h examples-c/CMakeLists.txt examples-c/README.md \
	    '$(ROOT)/share/powerinfer/examples-c/'
	@for folder in go go/cmd/complete go/cmd/embed node server server/page; do \
	    install -d '$(ROOT)/share/powerinfer/examples-c'/$$folder && \
	    find examples-c/$$folder -maxdepth 1 -type f \
	        -exec install -m 644 {} '$(ROOT)/share/powerinfer/examples-c'/$$folder/ ';'; \
	done
	@echo 'installed in $(ROOT): $(LIB)/libpowerinfer.so, include/powerinfer/, bin/powerinfer-main'

# `install -C` leaves a file alone that is the same already, so nothing is rebuilt for it.
install-library: library
	@install -d '$(ROOT)/$(LIB)/pkgconfig' '$(ROOT)/$(LIB)/cmake/powerinfer' \
	    '$(ROOT)/$(LIB)/powerinfer/compat/cmake' '$(ROOT)/$(LIB)/powerinfer/compat/pkgconfig' \
	    '$(ROOT)/include/powerinfer' '$(WORK)'
	@install -C -m 755 '$(LIBRARY)' '$(ROOT)/$(LIB)/libpowerinfer.so.$(VERSION)'
	@ln -sf libpowerinfer.so.$(VERSION) '$(ROOT)/$(LIB)/libpowerinfer.so.$(SOVERSION)'
	@ln -sf libpowerinfer.so.$(SOVERSION) '$(ROOT)/$(LIB)/libpowerinfer.so'
	@install -C -m 644 include/*.h '$(ROOT)/include/powerinfer/'
	@for name in $(COMPAT); do \
	    ln -sf ../../libpowerinfer.so.$(VERSION) "$(ROOT)/$(LIB)/powerinfer/compat/$$name"; \
	done
	@fill() { $(FILL) "include/package/$$1.in" >'$(WORK)/filled' && \
	          install -C -m 644 '$(WORK)/filled' "$(ROOT)/$(LIB)/$$2/$$1"; }; \
	    fill powerinfer.pc pkgconfig && \
	    fill powerinfer-config.cmake cmake/powerinfer && \
	    fill powerinfer-config-version.cmake cmake/powerinfer && \
	    fill llama-config.cmake powerinfer/compat/cmake && \
	    fill llama.pc powerinfer/compat/pkgconfig

uninstall:
	rm -f '$(ROOT)/$(LIB)'/libpowerinfer.so* '$(ROOT)/$(LIB)/pkgconfig/powerinfer.pc' \
	    $(foreach program,$(PROGRAMS) server,'$(ROOT)/bin/powerinfer-$(program)')
	rm -rf '$(ROOT)/$(LIB)/powerinfer' '$(ROOT)/$(LIB)/cmake/powerinfer' \
	    '$(ROOT)/include/powerinfer' '$(ROOT)/share/powerinfer'

clean:
	cargo clean
