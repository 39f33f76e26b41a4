#!/usr/bin/env bash
# Runs every fuzz target, or those that are named, for a number of seconds each: run.sh SECONDS [TARGET...]
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:?how many seconds for each target}
shift
[ $# -gt 0 ] || set -- certificates decisions documents first_bytes heads packets plugin_calls plugin_images plugin_modules requests tunnels
cargo fuzz --version >/dev/null 2>&1 || cargo install -q --locked cargo-fuzz
# The sanitizer flags are unstable; a stable compiler accepts them this way.
export RUSTC_BOOTSTRAP=1
for target in "$@"; do
    # What the fuzzer finds is kept in the first folder; the others are what it begins with.
    corpus=("corpus/$target")
    options=()
    case $target in
        documents) corpus+=(../../dataplane/config/tests ../../dataplane/config/tests/cases); options+=(-dict=documents.dict) ;;
        *) corpus+=("seeds/$target") ;;
    esac
    mkdir -p "${corpus[0]}"
    echo "fuzz: $target for $seconds s"
    cargo fuzz run --fuzz-dir . "$target" "${corpus[@]}" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=30 -print_final_stats=1 "${options[@]}"
done
