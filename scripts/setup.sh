#!/bin/sh
# All that a fresh Debian or Ubuntu machine lacks to run this project: system packages for FFCV,
# a virtual environment in .venv, the locked dependencies. Run again, it changes nothing.
#
#   scripts/setup.sh             with the newest suitable python3 on the PATH
#   PYTHON=/path/to/python3.12 scripts/setup.sh
set -eu
cd "$(dirname "$0")/.."

stamp=.venv/setup.stamp

say() { printf 'set-up: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# What the environment was made from. Contents, not times: a checkout may touch files it leaves equal.
# The place counts as well, because scripts in a virtual environment name it.
inputs() { pwd -P; cat requirements.lock requirements-uv.lock pyproject.toml scripts/setup.sh; }
wanted=$(inputs | sha256sum | cut -d' ' -f1)

if [ -x .venv/bin/python ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    exit 0
fi

started=$(date +%s)

suitable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if suitable "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
}

# Debian's names of what is missing, on one line. FFCV is compiled here, so it needs a compiler and
# headers; what is found by other means than dpkg (conda, a hand-made build) counts as present.
missing_packages() {
    command -v g++ >/dev/null || echo g++
    if command -v pkg-config >/dev/null; then
        pkg-config --exists libturbojpeg || echo libturbojpeg0-dev
        pkg-config --exists opencv4 || pkg-config --exists opencv || echo libopencv-dev
    else
        echo pkg-config libturbojpeg0-dev libopencv-dev
    fi
    case $("$python" -c 'import sys; print(sys.base_prefix)') in
        /usr) # any other Python brings its own headers and venv, or has no Debian package for them
            version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
            "$python" -c 'import ensurepip, venv' 2>/dev/null || echo "$version-venv"
            "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || echo "$version-dev"
            ;;
    esac
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

install_packages() {
    advice="these system packages are missing; install them and run make again: apt-get install $*"
    command -v apt-get >/dev/null || fail "$advice"
    as_root true 2>/dev/null || fail "$advice"
    say "installing $* (a minute or two)"
    # What apt-get tells on stdout is a thousand lines of success; its complaints are on stderr.
    {
        as_root apt-get update -qq &&
            as_root env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y -qq --no-install-recommends "$@"
    } >/dev/null || fail "apt-get could not install them (its reason is above): $*"
}

# Tests show pages in it, and are skipped without it: where it cannot be installed, nothing fails.
install_browser() {
    command -v chromium >/dev/null && return
    { command -v apt-get >/dev/null && as_root true 2>/dev/null; } || return 0
    (install_packages chromium) || say "without chromium, tests in a browser are skipped"
}

python=$(find_python)
[ -n "$python" ] || fail "Python 3.11 or newer is needed and not on the PATH;" \
    "install one (apt-get install python3) or name it: make PYTHON=/path/to/python3.12"

missing=$(missing_packages | tr '\n' ' ')
# shellcheck disable=SC2086  # a list of words
[ -z "$missing" ] || install_packages $missing
install_browser

# A stamp marks a whole environment. Without one, whatever is there is half-made: start again.
if [ -f "$stamp" ]; then
    rm "$stamp"
else
    say "making .venv with $("$python" -V)"
    "$python" -m venv --clear .venv || fail "$python -m venv failed (its reason is above)"
fi

uv_pip() {
    VIRTUAL_ENV="$PWD/.venv" UV_PYTHON_DOWNLOADS=never .venv/bin/uv pip "$@"
}

# The tools that build a package are held to the lock and its hashes, as the packages are.
install_locked() {
    command=$1
    shift
    uv_pip "$command" --require-hashes --compile-bytecode --build-constraints requirements.lock \
        --require-build-hashes --preview-features build-dependency-hashes "$@"
}

.venv/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements-uv.lock >&2 ||
    fail "uv could not be fetched (pip's reason is above); check the network and run make again"

# FFCV by itself and first: it is the one package that is compiled, and should fail early and alone.
log=.venv/ffcv-build.log
awk '/^[^ ]/ { wanted = /^ffcv==/ } wanted' requirements.lock >.venv/ffcv.lock
say "building FFCV"
install_locked install --no-deps -r .venv/ffcv.lock >"$log" 2>&1 ||
    fail "FFCV did not build, the compiler's words are in $log; it needs g++, pkg-config," \
        "libturbojpeg0-dev, libopencv-dev and the headers of $(.venv/bin/python -V)"

# Bytecode is written here, once: Ray starts many processes, and each would compile all it imports.
say "installing the packages of requirements.lock (7 GB, most of it PyTorch)"
install_locked sync requirements.lock requirements-uv.lock ||
    fail "the locked packages did not install (uv's reason is above); run make again"
uv_pip install --quiet --no-deps --no-build-isolation --editable . ||
    fail "the project itself did not install (uv's reason is above)"
.venv/bin/python -m compileall -q dsnet jobs pipeline ||
    say "not all of the project's own files compile (Python's reason is above)"

printf '%s\n' "$wanted" >"$stamp.new"
mv "$stamp.new" "$stamp"
say "done in $(($(date +%s) - started)) s"
