#!/usr/bin/env bash
# Runs every fuzz target for a number of seconds each.
set -euo pipefail
cd "$(dirname "$0")"
cargo fuzz --version >/dev/null 2>&1 || cargo install -q --locked cargo-fuzz
# The sanitizer flags are unstable; a stable compiler accepts them this way.
export RUSTC_BOOTSTRAP=1
for target in documents packets requests; do
    echo "fuzz: $target for $1 s"
    cargo fuzz run --fuzz-dir . "$target" -- -max_total_time="$1" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1
done
