"""Dockerfiles: hadolint's rules, all severities, no exception; and base images by a full version."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from deploy.tools import run

__all__ = ["check"]


def check(root: Path) -> list[str]:
    """Findings of hadolint, and of the base images."""
    files = sorted((root / "docker").glob("Dockerfile.*"))
    if not files:
        return ["docker/: wanted Dockerfiles, got none"]
    done = run("hadolint", ["--no-color", "--failure-threshold", "style", *map(str, files)], root)
    findings = (done.stdout + done.stderr).splitlines() if done.returncode else []
    return findings + [finding for file in files for finding in _check_base_images(file)]


def _check_base_images(file: Path) -> Iterator[str]:
    """Each FROM is a stage, or an ARG with a default whose tag is a version; so another can take its place."""
    text = file.read_text()
    images = dict(re.findall(r"^ARG (\w+)=(\S+)$", text.split("\nFROM", 1)[0], re.M))
    stages: set[str] = set()
    for base, stage in re.findall(r"^FROM (\S+)(?: AS (\S+))?$", text, re.M):
        image = images.get(base.removeprefix("${").removesuffix("}"), "")
        if base not in stages and not re.search(r":\d+\.\d+[\w.-]*$", image):
            yield f"{file.name}: wanted FROM an ARG with a version as its default, or a stage, got {base} {image}"
        stages.add(stage)
