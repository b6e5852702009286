"""The programs that the checks run, from the tools' environment: none of the machine's own is taken."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["program", "run"]

_TOOLS = Path(__file__).resolve().parents[1] / ".cache" / "deploy-tools"
_TIMEOUT_S = 300


def program(name: str) -> str:
    """The path of a program that scripts/_deploy.sh installed."""
    return str(_TOOLS / ("checkov/bin" if name == "checkov" else "bin") / name)


def run(
    name: str, arguments: Sequence[str], directory: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program in a directory. Its failure is the caller's to judge: for some it means findings."""
    return subprocess.run(
        [program(name), *arguments],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
