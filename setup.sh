#!/usr/bin/env bash
# Installs what building and testing Weir need, and nothing that is there already. Quiet when nothing is missing.
#
# On Debian everything but Rust itself comes from packages and crates. Elsewhere it says what is missing.
set -euo pipefail
cd "$(dirname "$0")"

say() { printf 'setup: %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
die() { say "$*"; exit 1; }

have cargo || die "cargo is missing: install Rust 1.95 or later, see https://rustup.rs"

# 1. Tools that the lab and the tests call, by the package that has them on Debian.
missing=()
need() { have "$1" || missing+=("$2"); }
need ip iproute2
need curl curl
need nft nftables
need bpftool bpftool
need cc gcc
need nsenter util-linux
need sysctl procps
# A caller and a server of gRPC that are not our own.
python3 -I -c "import grpc" 2>/dev/null || /usr/bin/python3 -I -c "import grpc" 2>/dev/null || missing+=(python3-grpcio)

# 2. A compiler for the eBPF programs: one that has core for bpfel-unknown-none, or nightly with rust-src.
has_bpf_core() { [ -d "$("$1" --print sysroot 2>/dev/null)/lib/rustlib/bpfel-unknown-none" ]; }
has_nightly_source() { have rustup && [ -d "$(rustc +nightly --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/core" ]; }
llvm=""
if has_nightly_source; then
    :
elif { [ -x /usr/bin/rustc ] && has_bpf_core /usr/bin/rustc; }; then
    llvm=llvm-22
elif have apt-cache; then
    missing+=(rustc-web cargo-web libstd-rust-web-dev-bpf)
    llvm=llvm-22
else
    die "no compiler for eBPF: run 'rustup toolchain install nightly --component rust-src'"
fi
if [ -n "$llvm" ] && ! have bpf-linker; then
    [ -d /usr/lib/llvm-22/include ] || missing+=(llvm-22-dev)
    ls /usr/lib/llvm-22/lib/libPolly* >/dev/null 2>&1 || missing+=(libpolly-22-dev)
    [ -f /usr/include/zstd.h ] || missing+=(libzstd-dev)
fi

# 3. A compiler for plugins: one that has the target's standard library, one that has the library's source, or Debian's
# pair of compiler and source (`weir plugin build` chooses).
has_wasm() { [ -d "$(rustc --print sysroot 2>/dev/null)/lib/rustlib/wasm32-unknown-unknown/lib" ]; }
has_std_source() { [ -d "$("$1" --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/std" ]; }
if has_wasm || has_std_source rustc || { [ -x /usr/bin/rustc ] && has_std_source /usr/bin/rustc; }; then
    :
elif have apt-cache; then
    missing+=(rustc-web cargo-web rust-web-src)
else
    die "no compiler for plugins: run 'rustup target add wasm32-unknown-unknown'"
fi

if [ "${#missing[@]}" -gt 0 ]; then
    have apt-get || die "install these, by the names they have on Debian: ${missing[*]}"
    [ "$(id -u)" = 0 ] || die "run as root, or install: ${missing[*]}"
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# 4. Cargo's own tools. The eBPF linker is built against the LLVM of the compiler that makes the programs.
if ! have bpf-linker; then
    say "building bpf-linker (about a minute)"
    if [ -n "$llvm" ]; then
        LLVM_PREFIX=/usr/lib/llvm-22 cargo install -q --locked bpf-linker --version 0.13.0 --no-default-features --features llvm-22
    else
        cargo install -q --locked bpf-linker --version 0.13.0
    fi
fi
if ! cargo nextest --version >/dev/null 2>&1; then
    say "building cargo-nextest (some minutes)"
    cargo install -q --locked cargo-nextest
fi

# 5. The kernel.
[ "$(id -u)" = 0 ] || die "root is needed: network namespaces and eBPF programs are made for real"
[ -e /sys/kernel/btf/vmlinux ] || die "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)"
grep -q cgroup2 /proc/mounts || die "no cgroup v2 is mounted"
