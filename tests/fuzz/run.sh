#!/bin/sh
# Fuzzes every target for the given time each: tests/fuzz/run.sh SECONDS [TARGET...]
# Ends with 1 when one crashed, hung or ran out of memory; the input is then in artifacts/.
#
# Works with stable Rust: the coverage that libFuzzer needs is asked of LLVM itself. With
# cargo-fuzz and nightly the same targets run under AddressSanitizer:
#   cargo +nightly fuzz run --fuzz-dir tests/fuzz TARGET
set -eu
cd "$(dirname "$0")"
seconds=${1:?usage: run.sh SECONDS [TARGET...]}
shift

# To add a target: a file in targets/, its [[bin]] in Cargo.toml, its name here.
targets=${*:-"gguf_parse dequant_any_bytes load_tiny_model load_sparse_model state_restore tokenize_roundtrip pretok_vs_fancy_regex gbnf_parse grammar_accept"}

RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares" \
    cargo build --release --quiet --bins --target "$(rustc -vV | sed -n 's/^host: //p')" --target-dir target

bin=target/$(rustc -vV | sed -n 's/^host: //p')/release
failed=
for target in $targets; do
    mkdir -p "corpus/$target" "artifacts/$target"
    case $target in *gguf*) cp ../goldens/*.gguf "corpus/$target/" ;; esac
    echo "== $target, $seconds s"
    # -timeout: a file of a few kilobytes that takes a second is a bug.
    FUZZ_SEEDS="corpus/$target" "$bin/$target" -max_total_time="$seconds" -timeout=1 -rss_limit_mb=1024 -max_len=24576 \
        -print_final_stats=1 -artifact_prefix="artifacts/$target/" \
        "corpus/$target" >"artifacts/$target.log" 2>&1 || failed="$failed $target"
    grep -E 'stat::number_of_executed_units|cov:.*DONE|DONE.*cov:' "artifacts/$target.log" | tail -2 || true
    case " $failed " in *" $target "*) tail -40 "artifacts/$target.log" ;; esac
done
if [ -n "$failed" ]; then
    echo "failed:$failed (inputs in tests/fuzz/artifacts)"
    exit 1
fi
