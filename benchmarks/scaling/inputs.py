"""What all figures of docs/scaling.md come from, read from the repository's own files.

docs/benchmarks/results.json, docs/scaling/measured.json, machines.toml        what was measured, and prices
k8s/base/hpa.yaml -> Autoscaler      k8s/base/deployment.yaml -> processors      bert/config.pbtxt -> Limits
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from benchmarks.errors import BenchmarkError
from benchmarks.scaling import costs
from benchmarks.scaling.cluster import Environment
from benchmarks.scaling.hpa import DEFAULT_DOWN, DEFAULT_UP, Autoscaler, Metric, Policy, Rules
from benchmarks.scaling.pod import ADMISSION, Limits
from benchmarks.scaling.scenarios import PENDING_S
from benchmarks.scaling.service import ServiceTime, busy_share, fit, fit_shim, points
from server.settings import ROOT

__all__ = ["MEASURED", "RESULTS", "Inputs", "parse_autoscaler", "read_inputs"]

RESULTS = ROOT / "docs" / "benchmarks" / "results.json"
MEASURED = ROOT / "docs" / "scaling" / "measured.json"
_BASE = ROOT / "k8s" / "base"
# From Triton's readiness to the pod's, on average: half a period of the startup probe (2 s) and of the readiness probe
# (5 s), and a second until kube-proxy knows.
PROBES_S = 4.5


@dataclass(frozen=True)
class Inputs:
    """What all figures come from."""

    results: Mapping[str, Any]
    measured: Mapping[str, Any]
    autoscaler: Autoscaler
    requested: Mapping[str, float]
    limits: Limits
    machines: Sequence[costs.Machine]

    @property
    def digest(self) -> str:
        """Twelve hex digits that tell whether two studies had the same inputs."""
        content = {
            "about": self.results["about"],
            "points": [asdict(point) for point in points(self.results)],
            "measured": self.measured,
            "autoscaler": asdict(self.autoscaler),
            "requested": self.requested,
            "limits": asdict(self.limits),
            "machines": [asdict(machine) for machine in self.machines],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def service(self) -> ServiceTime:
        """As measured, on the processors that it was measured on."""
        return fit(points(self.results), self.results["about"]["processors"])

    @property
    def pod(self) -> ServiceTime:
        """Of a pod."""
        return self.service.on(self.requested["triton"])

    def environment(self, start_s: float | None = None, connection_life_s: float = 0.0) -> Environment:
        """A cluster whose pods need so long until they are ready; by default as measured."""
        measured = points(self.results)
        container_s = float(np.median(self.measured["starts_s"])) + PROBES_S
        return Environment(
            service=self.pod,
            shim=fit_shim(measured),
            busy_share=busy_share(measured),
            limits=self.limits,
            triton_processors=self.requested["triton"],
            rest_processors=self.requested["rest"],
            pending_s=PENDING_S if start_s is None else start_s - container_s,
            start_s=container_s,
            connection_life_s=connection_life_s,
        )


def read_inputs(results: Path = RESULTS, measured: Path = MEASURED, machines: Path = costs.MACHINES) -> Inputs:
    """Read them.

    Raises:
        BenchmarkError: a file is missing or is not what it should be.
    """
    try:
        return Inputs(
            json.loads(results.read_text()),
            json.loads(measured.read_text()),
            parse_autoscaler(yaml.safe_load((_BASE / "hpa.yaml").read_text())),
            _requested(yaml.safe_load((_BASE / "deployment.yaml").read_text())),
            _limits(),
            costs.read_machines(machines),
        )
    except (OSError, json.JSONDecodeError) as error:
        raise BenchmarkError(f"cannot read what the model is made from: {error}") from error


def parse_autoscaler(manifest: Mapping[str, Any]) -> Autoscaler:
    """A HorizontalPodAutoscaler of autoscaling/v2 that scales by the use of processors.

    Raises:
        BenchmarkError: it has something that the simulation does not know.
    """
    kind = (manifest.get("apiVersion"), manifest.get("kind"))
    if kind != ("autoscaling/v2", "HorizontalPodAutoscaler"):
        raise BenchmarkError(f"wanted an autoscaling/v2 HorizontalPodAutoscaler, got {kind[0]} {kind[1]}")
    spec = manifest["spec"]
    behavior = spec.get("behavior", {})
    return Autoscaler(
        spec.get("minReplicas", 1),
        spec["maxReplicas"],
        tuple(_metric(metric) for metric in spec["metrics"]),
        _rules(behavior.get("scaleUp", {}), DEFAULT_UP),
        _rules(behavior.get("scaleDown", {}), DEFAULT_DOWN),
    )


def _metric(metric: Mapping[str, Any]) -> Metric:
    source = {"Resource": "resource", "ContainerResource": "containerResource"}.get(metric["type"])
    if source is None or metric[source]["name"] != "cpu" or metric[source]["target"]["type"] != "Utilization":
        raise BenchmarkError(f"wanted a metric that is the use of processors, in percent, got {dict(metric)}")
    return Metric(metric[source].get("container", ""), metric[source]["target"]["averageUtilization"] / 100)


def _rules(rules: Mapping[str, Any], default: Rules) -> Rules:
    policies = tuple(Policy(each["type"], each["value"], each["periodSeconds"]) for each in rules.get("policies", []))
    return Rules(
        rules.get("stabilizationWindowSeconds", default.stabilization_s),
        policies or default.policies,
        rules.get("selectPolicy", default.select),
    )


def _requested(deployment: Mapping[str, Any]) -> dict[str, float]:
    """Processors and GiB of memory of a pod: {"triton": 4, "rest": 1, "memory_gib": 3}."""
    containers: Sequence[Mapping[str, Any]] = deployment["spec"]["template"]["spec"]["containers"]
    requests = {container["name"]: container["resources"]["requests"] for container in containers}
    found = {name: _processors(str(each["cpu"])) for name, each in requests.items()}
    return found | {"memory_gib": sum(_gib(str(each["memory"])) for each in requests.values())}


def _processors(quantity: str) -> float:
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def _gib(quantity: str) -> float:
    units = {"Mi": 1 / 1024, "Gi": 1.0}
    if quantity[-2:] not in units:
        raise BenchmarkError(f"memory: wanted a number of Mi or Gi, got {quantity}")
    return float(quantity[:-2]) * units[quantity[-2:]]


def _limits() -> Limits:
    """What a pod takes."""
    config = text_format.Parse(
        (ROOT / "model_repository" / "bert" / "config.pbtxt").read_text(), model_config_pb2.ModelConfig()
    )
    return replace(ADMISSION, max_batch=config.max_batch_size)
