"""The ONNX Runtimes that a graph is verified with, each run in a process of its own.

The newest is the installed one. The oldest is what the oldest supported Triton image carries; `pip` cannot install two
versions of one package, so it lives in a folder beside the environment's packages.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.errors import GraphUnreadable, RuntimeCrashed, RuntimeMissing

__all__ = ["OLDEST", "Results", "Runtime", "newest", "oldest", "oldest_folder", "run"]

OLDEST = "1.19.2"  # Triton 24.10
OLDEST_FOLDER_VARIABLE = "EXPORT_OLDEST_RUNTIME"
RUN_TIMEOUT_S = 900.0

Array = npt.NDArray[np.generic]
Feed = Mapping[str, Array]


@dataclass(frozen=True)
class Runtime:
    """One ONNX Runtime to run a graph under."""

    label: str
    folder: Path | None  # None: the installed one


@dataclass(frozen=True)
class Results:
    """Per case either the states, (batch, sequence, hidden), or the text of the error; and the graph's own vectors."""

    version: str
    outputs: Mapping[str, Array | str]
    pooled: Mapping[str, Array]  # (batch, hidden), for the cases without an error


def newest() -> Runtime:
    """The installed one."""
    return Runtime("installed", None)


def oldest_folder(flag: Path | None = None) -> Path:
    """Flag, then environment, then beside the packages of the running Python environment."""
    named = os.environ.get(OLDEST_FOLDER_VARIABLE)
    return flag or (Path(named) if named else Path(sys.prefix) / f"onnxruntime-{OLDEST}")


def oldest(folder: Path) -> Runtime:
    """The one in `folder`. Raises RuntimeMissing, with the command that makes the folder."""
    if not (folder / "onnxruntime").is_dir():
        raise RuntimeMissing(
            f"ONNX Runtime {OLDEST}, which every graph must run under, is not in {folder}. Make it with\n"
            f"    {sys.executable} -m pip install --target {folder} --no-deps onnxruntime=={OLDEST}\n"
            f"or name another folder with --oldest-runtime or {OLDEST_FOLDER_VARIABLE}, "
            "or go without by --no-verify-oldest."
        )
    return Runtime(OLDEST, folder)


def run(runtime: Runtime, graph: Path, cases: Mapping[str, Feed], timeout_s: float = RUN_TIMEOUT_S) -> Results:
    """Runs every case. Raises GraphUnreadable if the graph does not load, RuntimeCrashed if the process dies."""
    with tempfile.TemporaryDirectory(prefix="export-run-") as folder:
        cases_path, results_path = Path(folder) / "cases.npz", Path(folder) / "results.npz"
        feeds = {f"{case}/{name}": array for case, feed in cases.items() for name, array in feed.items()}
        np.savez(cases_path, **feeds)
        _start(runtime, [str(graph), str(cases_path), str(results_path)], timeout_s)
        with np.load(results_path) as file:
            results = {key: file[key] for key in file.files}
    version = str(results["version"])
    if runtime.folder is not None and version != runtime.label:
        raise RuntimeMissing(f"{runtime.folder} should hold ONNX Runtime {runtime.label}, it holds {version}")
    if reason := str(results["load"]):
        raise GraphUnreadable([f"ONNX Runtime {version} cannot load {graph.name}: {reason}"])
    outputs: dict[str, Array | str] = {}
    for case in cases:
        output = results.get(f"output/{case}")
        outputs[case] = output if output is not None else str(results[f"error/{case}"])
    pooled = {case: results[f"pooled/{case}"] for case in cases if f"pooled/{case}" in results}
    return Results(version, outputs, pooled)


def _start(runtime: Runtime, arguments: list[str], timeout_s: float) -> None:
    # glibc then fills memory with huge numbers: what is read before it was written is not the 0 of a fresh page.
    environment = {**os.environ, "MALLOC_PERTURB_": "128"}
    if runtime.folder is not None:
        earlier = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(runtime.folder), *([earlier] if earlier else [])])
    # -P: this folder's modules must not shadow others, as they would in a script's own folder.
    command = [sys.executable, "-P", str(Path(__file__).with_name("_run_onnx.py")), *arguments]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise RuntimeCrashed(f"ONNX Runtime ({runtime.label}) did not finish within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        last = (done.stdout.strip().splitlines() or ["starting"])[-1]
        cause = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        tail = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise RuntimeCrashed(f"ONNX Runtime ({runtime.label}) died with {cause} at: {last}\n{tail}".rstrip())
