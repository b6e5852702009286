"""docker-compose.yml: Docker's own Compose reads it for every combination of profiles, then our rules.

Compose itself refuses what is not in the Compose specification, and resolves variables, env files and dependencies; the
rules look at what it resolved.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.tools import run

__all__ = ["check", "check_service", "config"]

_PROCESSORS = ("cpu", "gpu")
_EXTRAS: tuple[tuple[str, ...], ...] = ((), ("monitoring",), ("logging",), ("monitoring", "logging"))
_SECRET = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|API_KEY|CREDENTIAL", re.I)
# rule: {service: why it cannot keep it}
_EXCEPTIONS: dict[str, dict[str, str]] = {
    "healthcheck": {
        "dcgm-exporter": "its image has no shell and no program that asks",
        "logging-users": "ends by itself; others wait for its success",
        "logging-setup": "ends by itself; others wait for its success",
    },
    "read_only": {
        "dcgm-exporter": "unknown what NVIDIA's exporter writes, and not to be tried without a GPU",
        "elasticsearch": "writes its key store and its settings beside its program at every start",
        "kibana": "writes its optimised bundles beside its program",
        "filebeat": "writes its registry and its locks beside its program",
    },
}


def config(root: Path, *profiles: str) -> tuple[dict[str, Any], str]:
    """What Compose makes of the file with these profiles, and its complaint if it refuses."""
    # Not the caller's: the variables of the file must come from .env.
    environment = {"PATH": os.defpath, "HOME": os.environ.get("HOME", "/")}
    arguments = [item for profile in profiles for item in ("--profile", profile)]
    done = run("docker-compose", [*arguments, "config", "--format", "json"], root, environment)
    if done.returncode:
        return {}, done.stderr.strip()
    # Without profiles of the caller .env names them. A warning is a variable that nobody set.
    return json.loads(done.stdout), done.stderr.strip()


def check(root: Path) -> list[str]:
    """Findings of Compose, then of the rules."""
    findings = []
    services: dict[str, dict[str, Any]] = {}
    for processor in _PROCESSORS:
        for extras in _EXTRAS:
            resolved, complaint = config(root, processor, *extras)
            if complaint:
                findings.append(f"profiles {processor}, {', '.join(extras)}: {complaint}")
            services |= resolved.get("services", {})
    findings += [finding for name, service in services.items() for finding in check_service(root, name, service)]
    findings += _check_profiles(root)
    return findings


def _check_profiles(root: Path) -> Iterator[str]:
    started = {profiles: set(config(root, *profiles)[0].get("services", {})) for profiles in ((), ("cpu",), ("gpu",))}
    if started[()] != {"triton", "rest"}:
        yield f"no profile: wanted triton and rest, got {sorted(started[()])}"
    if "triton-gpu" in started[("cpu",)] or "triton" in started[("gpu",)]:
        yield "profiles cpu and gpu: wanted one Triton in each, got both in one"
    for extra in ("monitoring", "logging"):
        # Else one would watch a service that is not there.
        if config(root, extra)[0]:
            yield f"profile {extra} without a processor: wanted a refusal, got none"


def check_service(root: Path, name: str, service: dict[str, Any]) -> Iterator[str]:
    """Findings in one service, as Compose resolved it."""

    def finding(rule: str, wanted: str, got: object) -> Iterator[str]:
        if name not in _EXCEPTIONS.get(rule, {}):
            yield f"{name}: wanted {wanted}, got {got}"

    image = service.get("image", "")
    if not re.search(r":[^:/]*\d", image) or image.endswith(":latest"):
        yield from finding("image", "an image with a version", image or "none")
    if not service.get("healthcheck", {}).get("test"):
        yield from finding("healthcheck", "a health check", "none")
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    if missing := {"cpus", "memory", "pids"} - set(limits):
        yield from finding("limits", "limits of cpus, memory and pids", f"none of {', '.join(sorted(missing))}")
    if not service.get("read_only"):
        yield from finding("read_only", "read_only", "a root file system that can be written")
    if service.get("privileged") or "ALL" not in service.get("cap_drop", []):
        yield from finding("cap_drop", "cap_drop ALL and not privileged", service.get("cap_drop", "neither"))
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield from finding("security_opt", "no-new-privileges:true", service.get("security_opt", "none"))
    if service.get("logging", {}).get("options", {}).get("max-size") is None:
        yield from finding("logging", "log files with a largest size", "none")
    for port in service.get("ports", []):
        if port.get("host_ip") != "127.0.0.1":
            yield from finding("published", f"port {port['target']} on 127.0.0.1", port.get("host_ip", "every address"))
    for variable, value in service.get("environment", {}).items():
        if _SECRET.search(variable) and not variable.endswith("_FILE") and value:
            yield from finding("environment", f"{variable} from a file of `secrets`", "a value")
    for dependency, condition in service.get("depends_on", {}).items():
        if condition["condition"] not in {"service_healthy", "service_completed_successfully"}:
            yield from finding("depends_on", f"to wait until {dependency} is healthy", condition["condition"])
    for volume in service.get("volumes", []):
        source = Path(volume["source"])
        if volume["type"] == "bind" and source.is_relative_to(root.resolve()) and not source.exists():
            yield from finding("volumes", "a file or folder of the project", f"{source} which is not there")
