#!/bin/sh
# Finds a Python that can carry robustjax and has tools/install.py make .venv with it.
# A version on PATH may be a pyenv shim that fails when run, so every candidate is run to be known.
#
#   PYTHON=...   the only interpreter to consider
#   EXTRAS=...   extras of setup.py to install, separated by commas (default: test)
#   --find       prints the interpreter and installs nothing

set -u
cd "$(dirname "$0")/.." || exit 1

# Prints the version and the interpreter itself: behind a shim, and outside any virtual environment.
probe='
import os, sys
version = "%d.%d" % sys.version_info[:2]
base = os.path.join(getattr(sys, "base_prefix", sys.prefix), "bin", "python" + version)
print(version)
print(base if os.access(base, os.X_OK) else sys.executable)
print("new enough" if sys.version_info >= (3, 11) else "too old")
import ensurepip, venv
print("complete")
'

rejected=
try() {
    answer=$("$1" -c "$probe" 2>/dev/null </dev/null)
    version=$(printf '%s\n' "$answer" | sed -n 1p)
    found=$(printf '%s\n' "$answer" | sed -n 2p)
    case $answer in
        *"new enough"*complete) return 0 ;;
        *"new enough"*) reason="$version without the venv and ensurepip modules" ;;
        *"too old"*) reason="$version, too old" ;;
        *) reason="does not run" ;;
    esac
    rejected="${rejected:+$rejected, }$1 ($reason)"
    return 1
}

fail() {
    printf 'robustjax: %s\n' "$1" >&2
    exit 1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        try "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python \
        "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/*/bin/python3; do
        command -v "$candidate" >/dev/null 2>&1 && try "$candidate" && return
    done
    return 1
}

if ! find_python; then
    fail "no usable Python: it must be 3.11 or newer, with the venv and ensurepip modules; \
found ${rejected:-none}. Install one (Debian and Ubuntu: apt install python3 python3-venv), \
or name it: make test PYTHON=/path/to/python3.12"
fi

if [ "${1:-}" = --find ]; then
    printf '%s\n' "$found"
else
    exec "$found" tools/install.py
fi
