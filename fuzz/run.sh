#!/usr/bin/env bash
# Runs fuzz targets: run.sh [SECONDS [TARGET...]], by default each for 10 s. Needs a nightly toolchain and a C++ compiler.
# Findings are kept in fuzz/artifacts/TARGET, what was learnt in fuzz/corpus/TARGET.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-10}
shift || true
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}

# As cargo-fuzz has it, without need of it.
flags='--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4'
flags+=' -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table'
flags+=' -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1'

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for file in targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi
# The health agent's dependencies are built for its targets alone.
build=()
for target in "${targets[@]}"; do
    build+=(--bin "$target")
    if grep -q auk_health "targets/$target.rs"; then build+=(--features health); fi
done
RUSTFLAGS=$flags cargo +nightly build --quiet --release --locked --target "$host" "${build[@]}"

failed=()
for target in "${targets[@]}"; do
    mkdir -p "corpus/$target" "artifacts/$target"
    log=artifacts/$target/log
    seeds=()
    [ -d "seeds/$target" ] && seeds+=("seeds/$target")
    [ "$target" = replay_file ] && seeds+=(../health/corpus)
    # A leak is looked for at the end only by LeakSanitizer; limits are of memory (MB), an input's length and its time (s).
    if "$CARGO_TARGET_DIR/$host/release/$target" "corpus/$target" "${seeds[@]}" "-artifact_prefix=artifacts/$target/" \
        "-max_total_time=$seconds" -rss_limit_mb=2048 -timeout=10 -max_len=32768 -print_final_stats=1 >"$log" 2>&1; then
        printf 'ok    %-18s %s runs, %s edges\n' "$target" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
            "$(grep -o 'cov: [0-9]*' "$log" | tail -1 | cut -d' ' -f2)"
    else
        printf 'FAIL  %-18s %s\n' "$target" "$log"
        grep -E 'panicked|ERROR|SUMMARY|artifact' "$log" | head -5
        failed+=("$target")
    fi
done
[ ${#failed[@]} -eq 0 ]
