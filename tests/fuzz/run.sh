#!/bin/sh
# Fuzzes every target for the given time each: tests/fuzz/run.sh SECONDS [TARGET...]
# Ends with 1 when one crashed, hung or ran out of memory; the input is then in artifacts/.
#
# Works with stable Rust: the coverage that libFuzzer needs is asked of LLVM itself, and so is
# AddressSanitizer where its runtime comes with the toolchain.
set -eu
cd "$(dirname "$0")"
seconds=${1:?usage: run.sh SECONDS [TARGET...]}
shift

# To add a target: a file in targets/, its [[bin]] in Cargo.toml, its name here. api_calls is run by
# its name: it wants more time than the others.
targets=${*:-"gguf_parse dequant_any_bytes load_tiny_model load_sparse_model adapter_load state_restore tokenize_roundtrip pretok_vs_fancy_regex gbnf_parse grammar_accept"}

mkdir -p target
echo 'fn main() {}' >target/probe.rs
asan=
if RUSTC_BOOTSTRAP=1 rustc -Zsanitizer=address target/probe.rs -o target/probe 2>/dev/null && target/probe; then
    # The sanitizer is an unstable flag, which the variable allows on a stable compiler.
    export RUSTC_BOOTSTRAP=1
    # More memory than a gigabyte at once is refused, as on a small machine.
    export ASAN_OPTIONS="allocator_may_return_null=1:max_allocation_size_mb=1024:${ASAN_OPTIONS-}"
    asan=-Zsanitizer=address
else
    echo 'without AddressSanitizer: this toolchain has no runtime for it'
fi
limits=${asan:+"-timeout=5 -rss_limit_mb=3072 -malloc_limit_mb=1100"}

# Coverage of edges without traces of comparisons, which would make the build several times longer.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="--cfg fuzzing $asan -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=3 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table" \
    cargo build --release --quiet $(printf -- '--bin %s ' $targets) --target "$host" --target-dir target

bin=target/$host/release
failed=
for target in $targets; do
    mkdir -p "corpus/$target" "artifacts/$target"
    case $target in *gguf*) cp ../goldens/*.gguf "corpus/$target/" ;; esac
    echo "== $target, $seconds s"
    case $target in api_calls) max_len=1024 ;; *) max_len=24576 ;; esac
    # -timeout: a file of a few kilobytes that takes a second is a bug; the sanitizer is slower.
    # shellcheck disable=SC2086
    FUZZ_SEEDS="corpus/$target" "$bin/$target" -max_total_time="$seconds" -max_len=$max_len \
        ${limits:-"-timeout=1 -rss_limit_mb=1024"} \
        -print_final_stats=1 -artifact_prefix="artifacts/$target/" \
        "corpus/$target" >"artifacts/$target.log" 2>&1 || failed="$failed $target"
    grep -E 'stat::number_of_executed_units|cov:.*DONE|DONE.*cov:' "artifacts/$target.log" | tail -2 || true
    case " $failed " in *" $target "*) tail -40 "artifacts/$target.log" ;; esac
done
if [ -n "$failed" ]; then
    echo "failed:$failed (inputs in tests/fuzz/artifacts)"
    exit 1
fi
