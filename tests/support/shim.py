"""A REST shim of the test's own: in a thread, with anything put in front of it, or as the program that it is."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp

from tests.support.service import ROOT, free_ports, without_settings


@contextlib.contextmanager
def running(app: ASGIApp, **config: Any) -> Iterator[str]:
    """Serve the application in the block; gives its http://HOST:PORT. `config` goes to uvicorn."""
    (port,) = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False, ws="none", **config))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@dataclass(frozen=True)
class Program:
    """`python -m client.rest`, running. `log` is its stderr."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def lines(self) -> list[dict[str, Any]]:
        """The log so far, as JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def wait_for_lines(self, count: int, **fields: object) -> list[dict[str, Any]]:
        """At least so many lines with these values of their fields, which are written as `message` or `url__path`."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = [line for line in self.lines() if all(_at(line, key) == value for key, value in fields.items())]
            if len(found) >= count:
                return found
            time.sleep(0.02)
        raise AssertionError(f"no {count} lines with {fields}:\n{self.log.read_text()}")


def _at(line: dict[str, Any], name: str) -> Any:
    for part in name.split("__"):
        line = line.get(part) or {}
    return line


@contextlib.contextmanager
def program(folder: Path, *arguments: str, **variables: str) -> Iterator[Program]:
    """Run the program in the block, its log in that folder; it must end with 0 on SIGTERM."""
    (port,) = free_ports(1)
    log = folder / "shim.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "client.rest", "--port", str(port), *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stderr=stream,
            env={**without_settings(os.environ), **variables},
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_live(url, process, log)
        yield Program(url, log, process)
        process.terminate()
        assert process.wait(20) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def wait_until_live(url: str, process: subprocess.Popen[bytes], log: Path | None = None) -> None:
    """Until the shim answers."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text() if log else "ended"
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health/live").status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError("the shim did not start")
