"""Servers as child processes, and what each of their processes costs: processor time and memory."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.errors import BenchmarkError
from server.settings import ROOT

__all__ = ["Usage", "free_ports", "running", "usage"]

_START_TIMEOUT_S = 180
_STOP_TIMEOUT_S = 30
_STUB = "triton_python_backend_stub"


@dataclass(frozen=True)
class Usage:
    """What a process has used so far: seconds of processor time, bytes of resident memory now and at its most."""

    cpu_s: float
    rss: int
    peak_rss: int


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, different from each other."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def running(
    name: str, command: Sequence[str], ready: Callable[[str], bool], environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Run a server until the block ends; gives its process id. `ready` is asked with all that it printed so far.

    Raises:
        BenchmarkError: it ended or did not get ready; carries the end of what it printed.
    """
    with tempfile.NamedTemporaryFile(prefix="bench-", suffix=".log") as stream:
        log = Path(stream.name)
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(environment or os.environ),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_ready(name, process, log, ready)
            yield process.pid
        finally:
            _stop(process)


def _wait_ready(name: str, process: subprocess.Popen[bytes], log: Path, ready: Callable[[str], bool]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not ready(log.read_text(errors="replace")):
        end = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        if (code := process.poll()) is not None:
            raise BenchmarkError(f"{name} ended with exit code {code} while it started:\n{end}")
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{name} was not ready after {_START_TIMEOUT_S} s:\n{end}")
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def usage(pid: int) -> dict[str, Usage]:
    """What a process and each of its descendants have used, by a short name."""
    try:
        parent = psutil.Process(pid)
        tree = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess as error:
        raise BenchmarkError(f"the server with process id {pid} is gone") from error
    result: dict[str, Usage] = {}
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess, FileNotFoundError):
            times = process.cpu_times()
            status = Path(f"/proc/{process.pid}/status").read_text()
            result[_short_name(process.cmdline())] = Usage(
                times.user + times.system, _kilobytes(status, "VmRSS"), _kilobytes(status, "VmHWM")
            )
    return result


def _kilobytes(status: str, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def _short_name(command: Sequence[str]) -> str:
    if not command:
        return "?"
    if command[0].endswith(_STUB):
        # "… bert_0_0 <backend's directory>": instance 0 of model bert on device 0.
        return next((name.rsplit("_", 2)[0] for name in reversed(command) if re.search(r"_\d+_\d+$", name)), "stub")
    if "-m" in command[:-1]:
        module = command[list(command).index("-m") + 1]
        return {"client.rest": "REST shim", "server": "supervisor", "benchmarks.reference_service": "reference"}.get(
            module, module.rpartition(".")[2]
        )
    return Path(command[0]).name
