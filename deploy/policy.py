"""Policies: checkov's rules on Dockerfiles and rendered manifests. Each rule that is left out has its reason here."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from deploy.kustomize import RENDERED, render
from deploy.tools import run

__all__ = ["SKIPPED", "check"]

SKIPPED = {
    "CKV_K8S_43": "images by digest: known when they are pushed to your registry, and set there (docs/operations.md)",
    "CKV_K8S_15": "imagePullPolicy Always: tags are never moved, and a start must not need the registry",
    "CKV_K8S_9": "a readiness probe for each container: the shim's embeds through Triton (held by deploy.agreement)",
    "CKV_DOCKER_7": "does not see the tag of a base image that is an ARG (held by deploy.dockerfiles)",
    "CKV_K8S_35": "secrets as files, not variables: rclone takes its access from variables",
}


def check(root: Path) -> list[str]:
    """Failed rules of checkov."""
    with tempfile.TemporaryDirectory() as folder:
        for name in RENDERED:
            try:
                (Path(folder) / f"{name.replace('/', '-')}.yaml").write_text(render(root, name))
            except ValueError as error:
                return [f"{name}: {error}"]
        kubernetes = _checkov(root, ["--directory", folder, "--framework", "kubernetes"])
        dockerfiles = _checkov(root, ["--directory", str(root / "docker"), "--framework", "dockerfile"])
    return kubernetes + dockerfiles


def _checkov(root: Path, arguments: list[str]) -> list[str]:
    options = ["--output", "json", "--compact", "--quiet", "--skip-download", "--skip-check", ",".join(SKIPPED)]
    done = run("checkov", [*arguments, *options], root)
    try:
        report = json.loads(done.stdout)
        # Nothing looked at is no report, but a summary of zeros.
        passed = report["summary"]["passed"]
        failed = report["results"]["failed_checks"] + report["results"].get("parsing_errors", [])
    except (ValueError, KeyError, TypeError):
        return [f"checkov {' '.join(arguments)}: wanted a report, got {done.stdout[-500:]}{done.stderr[-500:]}"]
    if not passed:
        return [f"checkov {' '.join(arguments)}: wanted rules that pass, got none"]
    return [
        f"{Path(each['file_path']).name} {each['resource']}: {each['check_id']} {each['check_name']}"
        if isinstance(each, dict)
        else f"{each}: cannot be parsed"
        for each in failed
    ]
