"""Every block of the README and of these pages runs, and prints what its comments say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.service import ROOT, Service, free_ports

PAGES = (
    "README.md",
    "docs/clients.md",
    "docs/openai.md",
    "docs/tei.md",
    "docs/bulk.md",
    "docs/keys-and-limits.md",
    "docs/watching.md",
    "docs/cache.md",
    "docs/monitoring.md",
    "docs/runbook.md",
    "docs/operations.md",
    "docs/reliability.md",
    "docs/security.md",
)
# `console` blocks show a terminal: the commands of a fresh clone, which the continuous integration runs as such. `json`
# blocks show what is in a log.
BLOCKS = [
    (page, language, code)
    for page in PAGES
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    if language in {"bash", "python"}
]


def test_there_are_blocks_of_known_languages() -> None:
    assert len(BLOCKS) > 10
    languages = {language for page in PAGES for language in re.findall(r"^```(\w+)$", (ROOT / page).read_text(), re.M)}
    assert languages <= {"bash", "python", "console", "json"}
    assert {page for page, _, _ in BLOCKS} == set(PAGES)


def expected_output(code: str) -> list[str]:
    """What the comments behind `print(…)` promise."""
    return re.findall(r"^\s*print\(.*\)  # (.*)$", code, re.MULTILINE)


@pytest.mark.triton
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block(service: Service, tmp_path: Path, number: int) -> None:
    _, language, code = BLOCKS[number]
    ports = {
        8080: service.rest_port,
        8000: service.http_port,
        8001: service.grpc_port,
        8002: service.metrics_port,
    }
    for default, port in ports.items():
        code = code.replace(f"127.0.0.1:{default}", f"127.0.0.1:{port}")
    code = code.replace("8081", str(free_ports(1)[0]))  # a shim that the block starts
    command = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-c"]
    # `python` in a shell block is this one.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
    assert '"error"' not in done.stdout
    for line in expected_output(code):
        assert line in done.stdout
