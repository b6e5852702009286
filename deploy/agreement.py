"""What must agree between the objects that are applied together, which no schema can see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

__all__ = ["check"]

Object = dict[str, Any]
# Beyond what is waited for: the kubelet's own steps between the containers' ends.
_GRACE_MARGIN_S = 5
# What server/triton_server.py gives Triton beyond --stop-timeout-s.
_TRITON_EXIT_S = 5


def check(objects: Sequence[Object]) -> list[str]:
    """Findings among objects that are applied together."""
    by_kind: dict[str, list[Object]] = {}
    for item in objects:
        by_kind.setdefault(item["kind"], []).append(item)
    workloads = [each for kind in ("Deployment", "DaemonSet", "Job") for each in by_kind.get(kind, [])]
    if not workloads:
        return ["wanted something that runs, got none"]
    findings = list(_check_selectors(workloads, by_kind))
    namespaces = {item["metadata"].get("namespace") for item in objects if item["kind"] != "Namespace"}
    if len(namespaces) > 1:
        findings.append(f"wanted one namespace, got {', '.join(sorted(map(str, namespaces)))}")
    for workload in workloads:
        findings += _check_references(workload, by_kind)
    for deployment in by_kind.get("Deployment", []):
        findings += _check_scaling(deployment, by_kind.get("HorizontalPodAutoscaler", []))
        findings += _check_probes(deployment)
        findings += _check_end(deployment, by_kind.get("ConfigMap", []))
    findings += _check_monitors(by_kind)
    return findings


def _pod(workload: Object) -> Object:
    template: Object = workload["spec"]["template"]
    return template


def _containers(workload: Object) -> dict[str, Object]:
    return {each["name"]: each for each in _pod(workload)["spec"]["containers"]}


def _port_names(workload: Object) -> set[str | int]:
    return {
        key
        for container in _containers(workload).values()
        for port in container.get("ports", [])
        for key in (port.get("name"), port["containerPort"])
        if key is not None
    }


def _selected(labels: Mapping[str, str], workloads: Iterable[Object]) -> list[Object]:
    return [each for each in workloads if labels.items() <= _pod(each)["metadata"]["labels"].items()]


def _check_selectors(workloads: list[Object], by_kind: Mapping[str, list[Object]]) -> Iterator[str]:
    """Services, budgets and network policies must find the pods, and name ports that these have."""
    for service in by_kind.get("Service", []):
        what = f"Service {service['metadata']['name']}"
        selected = _selected(service["spec"]["selector"], workloads)
        if not selected:
            yield f"{what}: wanted pods with {service['spec']['selector']}, got none"
        for port in service["spec"]["ports"]:
            if any(port["targetPort"] not in _port_names(each) for each in selected):
                yield f"{what}: wanted a container port {port['targetPort']!r}, got none"
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        for item in by_kind.get(kind, []):
            what = f"{kind} {item['metadata']['name']}"
            selector = item["spec"]["selector" if kind == "PodDisruptionBudget" else "podSelector"]["matchLabels"]
            selected = _selected(selector, workloads)
            if not selected:
                yield f"{what}: wanted pods with {selector}, got none"
            for rule in item["spec"].get("ingress", []):
                for port in rule.get("ports", []):
                    if any(port["port"] not in _port_names(each) for each in selected):
                        yield f"{what}: wanted a container port {port['port']!r}, got none"
    for workload in by_kind.get("Deployment", []):
        labels = workload["spec"]["selector"]["matchLabels"]
        if not _selected(labels, [workload]):
            yield f"Deployment {workload['metadata']['name']}: wanted its own pods to have {labels}"
        for constraint in _pod(workload)["spec"].get("topologySpreadConstraints", []):
            if not _selected(constraint["labelSelector"]["matchLabels"], [workload]):
                yield f"Deployment {workload['metadata']['name']}: wanted a spreading of its own pods"


def _check_references(workload: Object, by_kind: Mapping[str, list[Object]]) -> Iterator[str]:
    """ConfigMaps, accounts and volumes that a pod names must be there; secrets and claims are the user's."""
    what = f"{workload['kind']} {workload['metadata']['name']}"
    spec = _pod(workload)["spec"]
    maps = {each["metadata"]["name"] for each in by_kind.get("ConfigMap", [])}
    volumes = {each["name"]: each for each in spec.get("volumes", [])}
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    wanted = {
        source["configMapRef"]["name"]
        for c in containers
        for source in c.get("envFrom", [])
        if "configMapRef" in source
    }
    wanted |= {volume["configMap"]["name"] for volume in volumes.values() if "configMap" in volume}
    for missing in sorted(wanted - maps):
        yield f"{what}: wanted the ConfigMap {missing}, got none"
    for container in containers:
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"{what}: {container['name']}: wanted the volume {mount['name']}, got none"
    account = spec.get("serviceAccountName")
    if account and account not in {each["metadata"]["name"] for each in by_kind.get("ServiceAccount", [])}:
        yield f"{what}: wanted the ServiceAccount {account}, got none"


def _check_scaling(deployment: Object, autoscalers: Sequence[Object]) -> Iterator[str]:
    name = deployment["metadata"]["name"]
    mine = [each for each in autoscalers if each["spec"]["scaleTargetRef"]["name"] == name]
    if not mine:
        yield f"Deployment {name}: wanted an autoscaler, got none"
    if mine and "replicas" in deployment["spec"]:
        yield f"Deployment {name}: wanted no replicas under an autoscaler, got {deployment['spec']['replicas']}"
    containers = _containers(deployment)
    for metric in (
        metric for each in mine for metric in each["spec"]["metrics"] if metric["type"] == "ContainerResource"
    ):
        container = containers.get(metric["containerResource"]["container"], {})
        resource = metric["containerResource"]["name"]
        if resource not in container.get("resources", {}).get("requests", {}):
            yield f"autoscaler of {name}: wanted a request of {resource} to compare with, got none"
    for container in containers.values():
        cpu = container["resources"]["limits"]["cpu"]
        if cpu != container["resources"]["requests"]["cpu"] or not cpu.isdigit():
            # The server makes as many threads as the limit allows; a part of a processor would be throttled.
            yield f"Deployment {name}: {container['name']}: wanted whole processors, as many as requested, got {cpu}"


def _check_probes(deployment: Object) -> Iterator[str]:
    """Requests come to a pod only while a real embedding works, and nothing else is asked before the first one did."""
    containers = _containers(deployment)
    ready = containers["rest"].get("readinessProbe", {}).get("httpGet", {}).get("path")
    if ready != "/health/ready":
        yield f"rest: wanted a readiness probe that embeds, /health/ready, got {ready}"
    started = containers["triton"].get("startupProbe", {}).get("exec", {}).get("command")
    if started != ["python3", "-m", "server.probe"]:
        yield f"triton: wanted a startup probe that embeds, python3 -m server.probe, got {started}"


def _check_end(deployment: Object, maps: Sequence[Object]) -> Iterator[str]:
    """The pod's grace must hold the shim's and Triton's ends, which come one after the other."""
    containers = _containers(deployment)
    settings = {key: value for each in maps for key, value in each.get("data", {}).items()}
    triton_env = {each["name"]: each.get("value") for each in containers["triton"].get("env", [])}
    ready = containers["rest"]["lifecycle"]["preStop"]["sleep"]["seconds"]
    shim = ready + int(settings["EMBEDDING_REST_STOP_TIMEOUT_S"])
    drain = containers["triton"]["lifecycle"]["preStop"]["exec"]["command"]
    waited = int(drain[drain.index("--timeout-s") + 1])
    if waited < shim:
        yield f"triton's preStop: wanted to wait {shim} s for the shim at least, got {waited} s"
    end = shim + int(triton_env["EMBEDDING_STOP_TIMEOUT_S"]) + _TRITON_EXIT_S + _GRACE_MARGIN_S
    if (grace := _pod(deployment)["spec"]["terminationGracePeriodSeconds"]) < end:
        yield f"terminationGracePeriodSeconds: wanted {end} at least, got {grace}"
    if int(settings["EMBEDDING_REST_STOP_TIMEOUT_S"]) < float(settings["EMBEDDING_REST_TRITON_TIMEOUT_S"]):
        yield "rest.env: wanted a stop timeout that a request fits into, got less than the timeout of one"


def _check_monitors(by_kind: Mapping[str, list[Object]]) -> Iterator[str]:
    for monitor in by_kind.get("ServiceMonitor", []):
        labels = monitor["spec"]["selector"]["matchLabels"]
        ports = {
            port["name"]
            for service in by_kind.get("Service", [])
            if labels.items() <= service["metadata"].get("labels", {}).items()
            for port in service["spec"]["ports"]
        }
        for endpoint in monitor["spec"]["endpoints"]:
            if endpoint["port"] not in ports:
                name = monitor["metadata"]["name"]
                yield f"ServiceMonitor {name}: wanted a port {endpoint['port']}, got {sorted(ports)}"
