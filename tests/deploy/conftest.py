"""A copy of what deploys the service, for tests that break something in it and look for the finding."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.tools import run
from tests.support.service import ROOT

_TOOLS = ROOT / ".cache" / "deploy-tools" / "bin"


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    """The tools' environment, made by the project's own script."""
    done = subprocess.run([ROOT / "scripts" / "check-deploy", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What deploys the service, to break."""
    for name in ("docker", "k8s", "monitoring"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".env", "docker-compose.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture(scope="session")
def rendered(tools: None) -> dict[str, list[dict[str, Any]]]:
    """The objects of each overlay, as kustomize makes them."""
    return {name: _render(name) for name in ("overlays/cpu", "overlays/gpu", "overlays/customized", "bulk", "logging")}


def _render(name: str) -> list[dict[str, Any]]:
    done = run("kubectl", ["kustomize", str(ROOT / "k8s" / name)], ROOT)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def run_check(root: Path, *checks: str) -> subprocess.CompletedProcess[str]:
    """Run checks on a folder, as scripts/check-deploy does."""
    command = [_TOOLS / "python", "-m", "deploy", "--root", root, *checks]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


def edit(path: Path, old: str, new: str) -> None:
    """Replace what must be there."""
    text = path.read_text()
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new))


def of_kind(objects: list[dict[str, Any]], kind: str, name: str = "embedding-service") -> dict[str, Any]:
    """The one object of that kind and name."""
    (found,) = [each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name]
    return found
