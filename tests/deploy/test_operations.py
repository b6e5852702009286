"""docs/operations.md: its commands name what is there, and its numbers are those of the files."""

from __future__ import annotations

import itertools
import re
import shlex

import pytest

from deploy.compose import config
from tests.support.service import ROOT

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs/operations.md").read_text()
SHOWN = [line[2:] for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()]
INLINE = re.findall(r"`((?:docker|kubectl|scripts/)[^`]*)`", PAGE)
COMMANDS = [shlex.split(line) for line in SHOWN + INLINE if not line.startswith("docker/")]


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 20
    assert {command[0] for command in COMMANDS} >= {"docker", "kubectl", "curl"}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_names_what_is_there(command: list[str]) -> None:
    profiles = [value for flag, value in itertools.pairwise(command) if flag == "--profile"]
    if command[:2] == ["docker", "compose"] and "up" in command:
        resolved, complaint = config(ROOT, *profiles)
        assert not complaint
        assert "rest" in resolved["services"]
    for word in command:
        path = word.rstrip(",")
        if re.match(r"(docker|k8s|tests|scripts)/", path) and path != "k8s/overlays/mine":
            assert (ROOT / path).exists(), path


def test_the_numbers_of_a_pods_end() -> None:
    deployment = (ROOT / "k8s/base/deployment.yaml").read_text()
    assert "terminationGracePeriodSeconds: 70" in deployment
    assert "`terminationGracePeriodSeconds: 70`" in PAGE
    assert "sleep: {seconds: 10}" in deployment
    assert "| 0–10 |" in PAGE
    assert "EMBEDDING_REST_STOP_TIMEOUT_S=30" in (ROOT / "k8s/base/rest.env").read_text()
    assert "| 10–41 at most |" in PAGE


def test_the_versions_that_the_page_names() -> None:
    assert "tritonserver:26.09-py3" in (ROOT / "docker/Dockerfile.triton").read_text()
    assert "Triton 26.09" in PAGE
    assert 'VERSIONS = ("1.36", "1.37")' in (ROOT / "deploy/kubernetes.py").read_text()
    assert "Kubernetes 1.36 and 1.37" in PAGE
    assert "COMPOSE_VERSION=2.40" in (ROOT / "scripts/_deploy.sh").read_text()
    assert "Compose 2.40" in PAGE
