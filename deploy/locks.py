"""docker/requirements: every file pins all that it names by version and hash, within the ranges of pyproject.toml.

So a change of pyproject.toml's groups without `scripts/lock` is found.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

__all__ = ["LOCKS", "check"]

# Which groups of pyproject.toml a file holds, and the Python that it is for, as in scripts/lock.
LOCKS = {
    "triton": (("steps", "server"), "3.12"),
    "rest": (("rest",), "3.11"),
    "bulk": (("bulk",), "3.11"),
    "export": (("export",), "3.11"),
    "model": ((), "3.11"),
    "oldest": ((), "3.11"),
}
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ \\]+)(?P<rest>.*?)(?=^[A-Za-z0-9]|\Z)", re.M | re.S)


def check(root: Path) -> list[str]:
    """Findings in all lock files."""
    groups = tomllib.loads((root / "pyproject.toml").read_text())["dependency-groups"]
    folder = root / "docker" / "requirements"
    findings = []
    if (got := {path.stem for path in folder.glob("*.txt")}) != set(LOCKS):
        findings.append(f"docker/requirements: wanted {sorted(LOCKS)}, got {sorted(got)}")
    for name in sorted(set(LOCKS) & got):
        names, python = LOCKS[name]
        wanted = [item for group in names for item in _requirements(groups, group)]
        findings += [
            f"docker/requirements/{name}.txt: {finding}; run scripts/lock"
            for finding in _check_lock((folder / f"{name}.txt").read_text(), wanted, python)
        ]
    return findings


def _check_lock(text: str, wanted: list[Requirement], python: str) -> Iterator[str]:
    pins = {}
    for pin in _PIN.finditer(text):
        pins[canonicalize_name(pin["name"])] = Version(pin["version"])
        if "--hash=sha256:" not in pin["rest"]:
            yield f"wanted a hash for {pin['name']}, got none"
    if not pins:
        yield "wanted pins, got none"
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    for requirement in wanted:
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        version = pins.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version):
            yield f"wanted {requirement}, got {version or 'none'}"


def _requirements(groups: dict[str, list[str | dict[str, str]]], name: str) -> Iterator[Requirement]:
    for item in groups[name]:
        if isinstance(item, dict):
            yield from _requirements(groups, item["include-group"])
        else:
            yield Requirement(item)
