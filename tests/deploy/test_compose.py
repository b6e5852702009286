"""docker-compose.yml: Docker's own Compose takes it, and it and our rules find what is broken."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.compose import check_service, config
from tests.deploy.conftest import edit, run_check
from tests.support.service import ROOT

pytestmark = pytest.mark.slow

Service = dict[str, Any]
MONITORING = '    depends_on:\n      rest: {condition: service_healthy}\n    healthcheck:\n      test: ["CMD", "wget"'


@pytest.fixture(scope="module")
def services(tools: None) -> dict[str, Service]:
    """As Compose resolves them, of all profiles."""
    everything: dict[str, Service] = {}
    for profiles in (("cpu", "monitoring", "logging"), ("gpu",)):
        resolved, complaint = config(ROOT, *profiles)
        assert not complaint
        everything |= resolved["services"]
    return everything


def test_the_project_has_no_findings() -> None:
    done = run_check(ROOT, "compose")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("profiles", "started"),
    [
        ((), {"triton", "rest"}),
        (("cpu",), {"triton", "rest"}),
        (("gpu",), {"triton-gpu", "rest", "dcgm-exporter"}),
        (("cpu", "monitoring"), {"triton", "rest", "prometheus", "grafana", "node-exporter", "cadvisor"}),
    ],
)
def test_profiles(profiles: tuple[str, ...], started: set[str]) -> None:
    assert set(config(ROOT, *profiles)[0]["services"]) == started


def test_the_network_knows_both_tritons_by_one_name(services: dict[str, Service]) -> None:
    assert services["triton-gpu"]["networks"]["default"]["aliases"] == ["triton"]
    assert services["rest"]["environment"]["EMBEDDING_REST_TRITON_URL"] == "grpc://triton:8001"


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("shm_size: 512m", "shm_sise: 512m", "'shm_sise' not allowed"),
        ("  rest:\n    <<", "  rest:\n    depend_on: []\n    <<", "'depend_on' not allowed"),
        ("stop_grace_period: 30s", "stop_grace_period: soon", "soon"),
        ("${TRITON_MEMORY}", "${TRITON_MEMROY}", "TRITON_MEMROY"),
        ("k8s/base/rest.env", "k8s/base/test.env", "test.env not found"),
        ("profiles: [gpu]\n    networks", "profiles: [cpu, gpu]\n    networks", "wanted one Triton in each, got both"),
        (MONITORING, MONITORING.replace("rest:", "cadvisor:"), "monitoring without a processor: wanted a refusal"),
    ],
)  # fmt: skip
def test_what_compose_refuses(project: Path, old: str, new: str, finding: str) -> None:
    edit(project / "docker-compose.yml", old, new)
    done = run_check(project, "compose")
    assert done.returncode == 1
    assert finding in done.stdout


@pytest.mark.parametrize(
    ("name", "change", "finding"),
    [
        ("prometheus", lambda each: each.update(image="prom/prometheus:latest"), "wanted an image with a version"),
        ("grafana", lambda each: each.update(image="grafana/grafana"), "wanted an image with a version"),
        ("grafana", lambda each: each.pop("healthcheck"), "wanted a health check"),
        ("rest", lambda each: each["ports"][0].pop("host_ip"), "wanted port 8080 on 127.0.0.1, got every address"),
        ("rest", lambda each: each["ports"][0].update(host_ip="0.0.0.0"), "wanted port 8080 on 127.0.0.1, got 0.0.0.0"),
        ("triton", lambda each: each.update(cap_drop=["NET_RAW"]), "wanted cap_drop ALL"),
        ("triton", lambda each: each.update(privileged=True), "wanted cap_drop ALL and not privileged"),
        ("triton", lambda each: each.update(security_opt=[]), "wanted no-new-privileges:true"),
        ("triton", lambda each: each.pop("read_only"), "wanted read_only"),
        ("triton", lambda each: each["deploy"]["resources"]["limits"].pop("pids"), "wanted limits of cpus, memory"),
        ("triton", lambda each: each.pop("logging"), "wanted log files with a largest size"),
        ("rest", lambda each: each["depends_on"]["triton"].update(condition="service_started"), "wanted to wait until"),
        ("grafana", lambda each: each["environment"].update(GF_PASSWORD="x"), "wanted GF_PASSWORD from a file"),
        ("prometheus", lambda each: each["volumes"][0].update(source=str(ROOT / "x")), "x which is not there"),
    ],
)
def test_rules(services: dict[str, Service], name: str, change: Callable[[Service], object], finding: str) -> None:
    service = copy.deepcopy(services[name])
    assert not list(check_service(ROOT, name, service))
    change(service)
    assert finding in "\n".join(check_service(ROOT, name, service))
