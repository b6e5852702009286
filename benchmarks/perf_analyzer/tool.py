"""Where perf_analyzer comes from, and how it is run.

PyPI's package `perf-analyzer` needs glibc 2.38. The wheel of tritonclient 2.51.0 still carries the program itself,
which runs on older systems as well; it needs CUDA's runtime library (from PyPI, no GPU) and libb64 (from Debian).
All is laid into .cache/perf_analyzer, apart from the environment that serves.
"""

from __future__ import annotations

import csv
import ctypes.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError, WindowTooShort
from server.settings import ROOT

__all__ = ["PerfAnalyzer", "install"]

_FOLDER = ROOT / ".cache" / "perf_analyzer"
_PACKAGES = ("tritonclient==2.51.0", "nvidia-cuda-runtime-cu12==12.9.79")
_LIBB64 = "libb64-0d"  # the name with Debian and Ubuntu
_TIMEOUT_S = 300
_NO_REQUESTS = 3  # exit code
# What it says, with exit code 99, when the server finished nothing within a window.
_NO_STATISTICS = "failed to find the requested model version"


@dataclass(frozen=True)
class PerfAnalyzer:
    """The program and the folders of its libraries."""

    program: Path
    libraries: tuple[Path, ...]

    def run(self, *arguments: str) -> list[dict[str, str]]:
        """Run it; gives the rows of its CSV, one per concurrency.

        Raises:
            BenchmarkError: its exit code is not 0 (99: a wrong option, no server or a failed inference; 2: no stable
                measurement; 3: no request within a window, WindowTooShort), or it wrote no figures.
        """
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "table.csv"
            command = [str(self.program), *arguments, "-f", str(table)]
            path = os.pathsep.join([*map(str, self.libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])
            environment = {**os.environ, "LD_LIBRARY_PATH": path}
            try:
                done = subprocess.run(
                    command, env=environment, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
                )
            except subprocess.TimeoutExpired as error:
                raise BenchmarkError(f"{' '.join(command)}: no end after {_TIMEOUT_S} s") from error
            if done.returncode != 0:
                told = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
                too_short = done.returncode == _NO_REQUESTS or _NO_STATISTICS in told
                kind = WindowTooShort if too_short else BenchmarkError
                raise kind(f"{' '.join(command)}: exit code {done.returncode}\n{told}")
            rows = list(csv.DictReader(table.read_text().splitlines())) if table.is_file() else []
        if not rows or any(float(row["Inferences/Second"]) <= 0 for row in rows):
            raise BenchmarkError(f"{' '.join(command)}: wanted figures, got {rows}")
        return rows


def install() -> PerfAnalyzer:
    """Lay it into .cache, once.

    Raises:
        BenchmarkError: a part cannot be had; says which.
    """
    site = _FOLDER / "site"
    program = site / "bin" / "perf_analyzer"
    if not program.is_file():
        shutil.rmtree(site, ignore_errors=True)
        # Without dependencies: this is about one program, and its tritonclient is older than ours.
        _run("pip", [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), *_PACKAGES])
        program.chmod(0o755)
    libraries = [site / "nvidia" / "cuda_runtime" / "lib"]
    if ctypes.util.find_library("b64") is None:
        libraries += _libb64()
    return PerfAnalyzer(program, tuple(libraries))


def _libb64() -> list[Path]:
    """Unpack Debian's libb64 beside it, for which nobody needs to be root."""
    folder = _FOLDER / "libb64"
    if not list(folder.rglob("libb64.so.0d")):
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise BenchmarkError("perf_analyzer needs libb64.so.0d: install it with your package manager")
        with tempfile.TemporaryDirectory() as download:
            _run("apt-get download", ["apt-get", "-q", "download", _LIBB64], download)
            package = next(Path(download).glob("*.deb"))
            _run("dpkg-deb", ["dpkg-deb", "-x", str(package), str(folder)])
    return [path.parent for path in folder.rglob("libb64.so.0d")]


def _run(name: str, command: Sequence[str], directory: str | None = None) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"{name}: {' '.join(command)}: {(done.stderr or done.stdout).strip()[-500:]}")
