"""A real service for the tests: its own model repository, free ports, started once, asserted gone at the end."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 30


@dataclass(frozen=True)
class Service:
    """A running service. `log` is what its supervisor printed."""

    rest_port: int
    http_port: int
    grpc_port: int
    metrics_port: int
    pid: int
    model_repository: Path
    log: Path

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc_url(self) -> str:
        return f"grpc://127.0.0.1:{self.grpc_port}"

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.metrics_port}"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, different from each other."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def exported_repository(model: str | Path, name: str, *export_arguments: str) -> Path:
    """A model repository of its own with `model` exported into it, kept in .cache until the exporter changes."""
    sources = sorted([*(ROOT / "export").glob("*.py"), *(model.glob("*") if isinstance(model, Path) else [])])
    content = b"".join(path.read_bytes() for path in sources) + repr((str(model), export_arguments)).encode()
    directory = ROOT / ".cache" / "tests" / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"
    copy_static_files(directory)
    if not (directory / "bert" / "1" / "manifest.json").is_file():
        command = [sys.executable, "-m", "export", "--model", str(model), "--out", str(directory), *export_arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return directory


def copy_static_files(directory: Path) -> None:
    """Lay out the hand-written part of the model repository: configs and steps, without any exported data."""
    for path in [*directory.glob("*/config.pbtxt"), *directory.glob("*/1/*.py")]:
        path.unlink()  # none that the repository does not have any more
    ignore = shutil.ignore_patterns("model.onnx*", "tokenizer.json", "manifest.json", "__pycache__", ".export-*")
    shutil.copytree(ROOT / "model_repository", directory, ignore=ignore, dirs_exist_ok=True)


@contextlib.contextmanager
def serving(
    model_repository: Path,
    *arguments: str,
    killed: bool = False,
    stopped_by: signal.Signals = signal.SIGTERM,
    variables: Mapping[str, str] | None = None,
    wrapper: Sequence[str] = (),
) -> Iterator[Service]:
    """Run scripts/serve's program until the block ends; then it must stop cleanly and leave no process.

    Args:
        killed: the block kills it, so that there is nothing to stop.
        stopped_by: the signal that ends it.
        variables: added to its environment.
        wrapper: a command that the server's command line is appended to, and that it must take the place of (exec).
    """
    rest, http, grpc, metrics = free_ports(4)
    handle, log_name = tempfile.mkstemp(prefix="embedding-service-test-", suffix=".log")
    log = Path(log_name)
    command = [*wrapper, sys.executable, "-m", "server", "--model-repository", str(model_repository)]
    command += ["--rest-port", str(rest), "--http-port", str(http)]
    command += ["--grpc-port", str(grpc), "--metrics-port", str(metrics), *arguments]
    environment = {**without_settings(os.environ), **(variables or {})}
    with os.fdopen(handle, "wb") as stream:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, env=environment
        )
    children: list[psutil.Process] = []
    try:
        wait_for_line(process, log, "ready: ")
        children = psutil.Process(process.pid).children(recursive=True)
        yield Service(rest, http, grpc, metrics, process.pid, model_repository, log)
        if not killed:
            stop(process, log, stopped_by)
    finally:
        kill_tree(process, children)
        log.unlink()


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What of an environment does not set anything of ours."""
    return {key: value for key, value in environment.items() if not key.startswith(("EMBEDDING_", "OTEL_"))}


def wait_for_line(process: subprocess.Popen[bytes], log: Path, start: str) -> str:
    """The first line of the log with this start; fails with the log's end when the process ends or takes too long."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith(start):
                return line
        assert process.poll() is None, f"ended with exit code {process.poll()}\n{last_lines(log)}"
        time.sleep(0.05)
    raise AssertionError(f"no line {start!r} after {_START_TIMEOUT_S} s\n{last_lines(log)}")


def stop(process: subprocess.Popen[bytes], log: Path, number: signal.Signals = signal.SIGTERM) -> None:
    """Send the signal; the process and all that it started must be gone, with exit code 0."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    try:
        code = process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"did not stop within {_STOP_TIMEOUT_S} s\n{last_lines(log)}") from error
    assert code == 0, f"exit code {code}\n{last_lines(log)}"
    _, alive = psutil.wait_procs(children, timeout=1)
    assert not alive, f"left behind: {alive}"


def kill_tree(process: subprocess.Popen[bytes], children: list[psutil.Process]) -> None:
    """For failed tests: leave nothing behind in any case."""
    if process.poll() is None:
        children = [*children, *psutil.Process(process.pid).children(recursive=True)]
        process.kill()
        process.wait()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def last_lines(log: Path, count: int = 50) -> str:
    """The end of a log, for messages."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
