#!/usr/bin/env bash
# Builds plugins to target/plugins/NAME.wasm: all of this folder and the guests of the tests, or those that are named.
#
# The toolchain is the first of these that there is: a rustc that has the target's standard library, one that has the
# library's source, Debian's pair of compiler and source.
set -euo pipefail
cd "$(dirname "$0")"

target=wasm32-unknown-unknown
out="$(cd .. && pwd)/target/plugins"
say() { printf 'plugins: %s\n' "$*" >&2; }

# What a build around this one wants is not meant for plugins.
while IFS='=' read -r name _; do
    case "$name" in CARGO_HOME | CARGO_HTTP_* | CARGO_NET_* | CARGO_REGISTR*) ;; CARGO | CARGO_* | RUST*FLAGS | RUSTC*) unset "$name" ;; esac
done < <(env)

has_target() { [ -d "$("$1" --print sysroot)/lib/rustlib/$target/lib" ]; }
has_source() { [ -d "$("$1" --print sysroot)/lib/rustlib/src/rust/library/std" ]; }
linker() {
    local sysroot
    sysroot="$(rustc --print sysroot 2>/dev/null || true)"
    for one in "$sysroot"/lib/rustlib/*/bin/rust-lld; do [ -x "$one" ] && { echo "$one"; return; }; done
    command -v wasm-ld-22 || command -v wasm-ld
}
standard=(-Zbuild-std=std,panic_abort)
if has_target rustc; then
    cargo=cargo standard=()
elif has_source rustc; then
    cargo=cargo
    export RUSTC_BOOTSTRAP=1
elif [ -x /usr/bin/rustc ] && has_source /usr/bin/rustc; then
    cargo=/usr/bin/cargo
    export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="$(linker)"
    export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER
else
    say "no compiler for $target: run 'rustup target add $target'"
    exit 1
fi

[ $# -gt 0 ] || set -- */Cargo.toml guests/*/Cargo.toml
mkdir -p "$out"
for one in "$@"; do
    folder="${one%/Cargo.toml}"
    (cd "$folder" && "$cargo" build --quiet --release --locked --lib --target "$target" --target-dir "$out/build" "${standard[@]}")
    name="$(basename "$folder")"
    built="$out/build/$target/release/${name//-/_}.wasm"
    cmp -s "$built" "$out/$name.wasm" || cp "$built" "$out/$name.wasm"
done
