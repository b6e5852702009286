"""The manifests: each check passes on the project and finds what is broken; and the numbers of the design."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy import agreement
from tests.deploy.conftest import edit, of_kind, run_check
from tests.support.service import ROOT

pytestmark = pytest.mark.slow

Objects = list[dict[str, Any]]
Rendered = dict[str, Objects]


def test_the_project_has_no_findings() -> None:
    done = run_check(ROOT, "rules", "kubernetes")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("overlay", ["overlays/cpu", "overlays/gpu"])
def test_the_autoscaler(rendered: Rendered, overlay: str) -> None:
    spec = of_kind(rendered[overlay], "HorizontalPodAutoscaler", "embedding-service-hpa")["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "embedding-service"}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 20)
    processors = {
        metric["containerResource"]["container"]: metric["containerResource"]["target"]["averageUtilization"]
        for metric in spec["metrics"]
        if metric["type"] == "ContainerResource"
    }
    assert processors == {"triton": 70, "rest": 70}
    others = {metric["pods"]["metric"]["name"] for metric in spec["metrics"] if metric["type"] == "Pods"}
    assert others == ({"triton_queue_compute_ratio"} if overlay == "overlays/gpu" else set())


def test_the_metric_that_gpus_scale_by_is_recorded_and_handed_on(rendered: Rendered) -> None:
    recorded = {
        rule.get("record")
        for group in of_kind(rendered["overlays/gpu"], "PrometheusRule", "embedding")["spec"]["groups"]
        for rule in group["rules"]
    }
    assert "triton:queue_compute:ratio" in recorded
    adapter = (ROOT / "k8s/prometheus-adapter/values.yaml").read_text()
    assert '__name__="triton:queue_compute:ratio"' in adapter
    assert "as: triton_queue_compute_ratio" in adapter


def test_the_service_is_on_port_8000_and_goes_to_the_shim(rendered: Rendered) -> None:
    (port,) = of_kind(rendered["overlays/cpu"], "Service")["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (8000, "rest")
    assert of_kind(rendered["overlays/cpu"], "Service", "embedding-service-grpc")["spec"]["clusterIP"] == "None"


def test_a_gpu_pod_has_one_gpu(rendered: Rendered) -> None:
    triton, _ = of_kind(rendered["overlays/gpu"], "Deployment")["spec"]["template"]["spec"]["containers"]
    assert triton["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert triton["startupProbe"]["exec"]["command"] == ["python3", "-m", "server.probe"], "the patch keeps the rest"


def test_maps_hold_the_files_that_compose_mounts(rendered: Rendered) -> None:
    dashboard = of_kind(rendered["overlays/cpu"], "ConfigMap", "embedding-dashboard")["data"]["embedding.json"]
    assert dashboard == (ROOT / "monitoring/grafana/dashboards/embedding.json").read_text()
    maps = [each for each in rendered["logging"] if each["kind"] == "ConfigMap"]
    for name, file in {
        "embedding-filebeat": "filebeat/filebeat.yml",
        "embedding-logs-elasticsearch": "elasticsearch/ingest-pipeline.json",
        "embedding-logs-kibana": "kibana/embedding.ndjson",
    }.items():
        (data,) = [each["data"] for each in maps if each["metadata"]["name"].startswith(name)]
        assert data[file.split("/")[1]] == (ROOT / "monitoring" / file).read_text()
    (settings,) = [
        each["data"]
        for each in rendered["overlays/cpu"]
        if each["kind"] == "ConfigMap" and each["metadata"]["name"].startswith("embedding-rest-settings")
    ]
    lines = (ROOT / "k8s/base/rest.env").read_text().splitlines()
    assert settings == dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert "env_file: k8s/base/rest.env" in (ROOT / "docker-compose.yml").read_text()


def test_rules_that_were_changed_in_one_place_only(project: Path) -> None:
    rules = sorted((project / "monitoring/prometheus/rules").glob("*.yml"))[0]
    edit(rules, "\ngroups:\n", "\ngroups:\n  - name: another\n    rules: [{record: one, expr: vector(1)}]\n")
    done = run_check(project, "rules")
    assert done.returncode == 1
    assert "run scripts/check-deploy --write" in done.stdout
    assert run_check(project, "--write", "rules").returncode == 0


def test_what_kustomize_refuses_or_warns_of(project: Path) -> None:
    edit(project / "k8s/base/kustomization.yaml", "- pdb.yaml", "- pbd.yaml")
    edit(project / "k8s/bulk/kustomization.yaml", "labels:\n", "commonLabels: {a: b}\nlabels:\n")
    done = run_check(project, "kubernetes")
    assert done.returncode == 1
    for overlay in ("minimal", "cpu", "gpu", "customized"):
        assert any(f"overlays/{overlay}: " in line and "pbd.yaml" in line for line in done.stdout.splitlines())
    assert "'commonLabels' is deprecated" in done.stdout


def test_what_the_schemas_refuse(project: Path) -> None:
    deployment = project / "k8s/base/deployment.yaml"
    edit(deployment, "minReadySeconds: 10", "minReadySecond: 10")
    edit(project / "k8s/base/hpa.yaml", "autoscaling/v2", "autoscaling/v2beta2")
    edit(project / "k8s/base/pdb.yaml", "maxUnavailable: 1", "maxUnavailable: [1]")
    edit(project / "k8s/bulk/job.yaml", "backoffLimitPerIndex", "backoffPerIndex")
    monitor = project / "k8s/components/monitoring/servicemonitor.yaml"
    edit(monitor, "      interval: 15s", "      interval: 15\n      intervall: 15s")
    edit(project / "k8s/components/monitoring/prometheusrule.yaml", "  - record:", "  - recorded:")
    done = run_check(project, "kubernetes")
    assert done.returncode == 1
    for version in ("1.36", "1.37"):
        for finding in (
            f"Deployment embedding-service: Kubernetes {version}: ",
            f"HorizontalPodAutoscaler embedding-service-hpa: Kubernetes {version} has no HorizontalPodAutoscaler",
            f"PodDisruptionBudget embedding-service: Kubernetes {version}: spec.maxUnavailable",
            f"Job embedding-bulk: Kubernetes {version}: spec: ",
        ):
            assert finding in done.stdout, finding
    for finding in ("'minReadySecond'", "'backoffPerIndex'", "'intervall'", "endpoints[0].interval", "'recorded'"):
        assert finding in done.stdout, finding


def container(objects: Objects, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in pod(objects)["containers"] if each["name"] == name)
    return found


def pod(objects: Objects) -> dict[str, Any]:
    spec: dict[str, Any] = of_kind(objects, "Deployment")["spec"]["template"]["spec"]
    return spec


def settings(objects: Objects) -> dict[str, str]:
    (found,) = [each for each in objects if each["metadata"]["name"].startswith("embedding-rest-settings")]
    data: dict[str, str] = found["data"]
    return data


BREAKAGES: dict[str, Callable[[Objects], object]] = {
    "wanted no replicas under an autoscaler": lambda o: of_kind(o, "Deployment")["spec"].update(replicas=3),
    "wanted 60 at least, got 30": lambda o: pod(o).update(terminationGracePeriodSeconds=30),
    "wanted to wait 40 s for the shim at least, got 20": lambda o: container(o, "triton")["lifecycle"]["preStop"][
        "exec"
    ].update(command=["python3", "-m", "server.drain", "--timeout-s", "20"]),
    "wanted a stop timeout that a request fits into": lambda o: settings(o).update(EMBEDDING_REST_STOP_TIMEOUT_S="10"),
    "wanted whole processors": lambda o: container(o, "triton")["resources"]["limits"].update(cpu="4500m"),
    "as many as requested": lambda o: container(o, "rest")["resources"]["requests"].update(cpu="2"),
    "wanted a readiness probe that embeds": lambda o: container(o, "rest")["readinessProbe"]["httpGet"].update(
        path="/"
    ),
    "wanted a startup probe that embeds": lambda o: container(o, "triton").pop("startupProbe"),
    "wanted a container port 'grpc'": lambda o: container(o, "triton")["ports"][1].update(name="grpcs"),
    "wanted the ConfigMap other": lambda o: container(o, "rest")["envFrom"][0]["configMapRef"].update(name="other"),
    "wanted the ServiceAccount nobody": lambda o: pod(o).update(serviceAccountName="nobody"),
    "wanted the volume shm": lambda o: pod(o)["volumes"].pop(0),
    "wanted a spreading of its own pods": lambda o: pod(o)["topologySpreadConstraints"][0]["labelSelector"].update(
        matchLabels={"a": "b"}
    ),
    "Service embedding-service: wanted pods with": lambda o: of_kind(o, "Service")["spec"].update(selector={"a": "b"}),
    "PodDisruptionBudget embedding-service: wanted pods": lambda o: of_kind(o, "PodDisruptionBudget")["spec"][
        "selector"
    ].update(matchLabels={"a": "b"}),
    "NetworkPolicy embedding-service: wanted pods": lambda o: of_kind(o, "NetworkPolicy")["spec"]["podSelector"].update(
        matchLabels={"a": "b"}
    ),
    "wanted a container port 'http'": lambda o: of_kind(o, "NetworkPolicy")["spec"]["ingress"][0]["ports"][0].update(
        port="http"
    ),
    "wanted an autoscaler": lambda o: of_kind(o, "HorizontalPodAutoscaler", "embedding-service-hpa")["spec"][
        "scaleTargetRef"
    ].update(name="other"),
    "wanted a request of cpu": lambda o: of_kind(o, "HorizontalPodAutoscaler", "embedding-service-hpa")["spec"][
        "metrics"
    ][0]["containerResource"].update(container="other"),
    "wanted a port other": lambda o: of_kind(o, "ServiceMonitor", "embedding-rest")["spec"]["endpoints"][0].update(
        port="other"
    ),
    "wanted one namespace": lambda o: of_kind(o, "PodDisruptionBudget")["metadata"].update(namespace="default"),
}


@pytest.mark.parametrize("finding", BREAKAGES)
def test_what_must_agree(rendered: Rendered, finding: str) -> None:
    objects = copy.deepcopy(rendered["overlays/cpu"])
    assert agreement.check(objects) == []
    BREAKAGES[finding](objects)
    assert finding in "\n".join(agreement.check(objects))


def test_nothing_to_agree() -> None:
    assert agreement.check([]) == ["wanted something that runs, got none"]


@pytest.mark.slow
def test_policy(project: Path) -> None:
    assert run_check(project, "policy").returncode == 0
    edit(project / "k8s/base/deployment.yaml", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true")
    edit(project / "k8s/base/deployment.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false")
    edit(project / "docker/Dockerfile.triton", "USER 10001:10001", "USER root")
    done = run_check(project, "policy")
    assert done.returncode == 1
    for rule in ("CKV_K8S_20", "CKV_K8S_22", "CKV_DOCKER_8"):
        assert rule in done.stdout, rule
