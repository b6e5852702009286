"""Starts Triton and the REST shim in order, restarts what certainly died, and stops both on a signal.

    start:  Triton -> ready -> REST shim -> one real embedding -> "ready: URL"
    watch:  Triton or the shim ended, or a process of a Triton step is gone  -> start that one anew
    stop:   SIGTERM or SIGINT -> the shim finishes its requests -> Triton ends -> exit code 0

Triton 2.51 reports READY while the process of a Python step is dead and every request fails, and it does not start
the process anew; so the loss of one is a certain death of Triton (a stub is never replaced while Triton runs).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

import httpx

from server.errors import PortTakenError, ProcessError
from server.process import Process
from server.settings import ROOT, Settings
from server.triton import Installation, command, environment, has_gpu

__all__ = ["Supervisor"]

_POLL_S = 0.1
_WATCH_S = 0.5
# Restarts within this many seconds of each other are one trouble: after some of them we give up, and leave it to the
# orchestrator, which can see more than we do.
_TROUBLE_S = 60.0
_MAX_RESTARTS = 5


class Supervisor:
    """Owns both processes. `run` returns when it was asked to stop, and raises StartError when it must give up."""

    def __init__(self, settings: Settings, installation: Installation, threads: int) -> None:
        self._settings = settings
        self._installation = installation
        self._threads = threads
        self._shm_prefix = f"embedding-{os.getpid()}-"
        self._triton: Process | None = None
        self._rest: Process | None = None
        self._triton_children = 0
        self._restarts: list[float] = []

    async def run(self) -> None:
        """Start, watch, stop."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        stopping = asyncio.create_task(stop.wait())
        serving = asyncio.create_task(self._serve())
        try:
            await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
        finally:
            for task in (stopping, serving):
                task.cancel()
            await asyncio.gather(stopping, serving, return_exceptions=True)
            await self._stop()

    async def _serve(self) -> None:
        await self._start_triton()
        if self._settings.rest:
            await self._start_rest()
            _say(f"ready: http://{self._settings.probe_host}:{self._settings.rest_port}", prefix="")
        else:
            _say(f"ready: grpc://{self._settings.probe_host}:{self._settings.grpc_port}", prefix="")
        while True:
            await self._watch()

    async def _watch(self) -> None:
        """Wait for a certain death, and heal it."""
        await asyncio.sleep(_WATCH_S)
        if self._triton and (death := self._death_of_triton(self._triton)):
            self._count_restart(death)
            # A killed step makes Triton hang in its shutdown, and what is in flight is lost in any case.
            await self._triton.kill()
            self._remove_shared_memory()
            await self._start_triton()
        if self._rest and self._rest.exit_code is not None:
            self._count_restart(f"the REST shim ended with exit code {self._rest.exit_code}")
            await self._start_rest()

    def _death_of_triton(self, triton: Process) -> str | None:
        if triton.exit_code is not None:
            return f"Triton ended with exit code {triton.exit_code}"
        if len(triton.children()) < self._triton_children:
            return "a process of a Triton step is dead"
        return None

    def _count_restart(self, reason: str) -> None:
        now = time.monotonic()
        self._restarts = [at for at in self._restarts if now - at < _TROUBLE_S]
        if len(self._restarts) >= _MAX_RESTARTS:
            raise ProcessError(f"{reason}, after {_MAX_RESTARTS} restarts within {_TROUBLE_S:.0f} s: giving up")
        self._restarts.append(now)
        _say(f"{reason}: starting it anew")

    async def _start_triton(self) -> None:
        began = time.monotonic()
        _say("starting Triton")
        settings = self._settings
        self._triton = await Process.start(
            "Triton",
            command(settings, self._installation, self._threads, self._shm_prefix),
            environment(os.environ, self._installation, self._threads),
            shows=_is_warning,
        )
        await self._wait_ready(self._triton, f"http://{settings.probe_host}:{settings.http_port}/v2/health/ready")
        self._triton_children = len(self._triton.children())
        _say(f"Triton is ready after {time.monotonic() - began:.1f} s")

    async def _start_rest(self) -> None:
        began = time.monotonic()
        _say("starting the REST shim")
        settings = self._settings
        arguments = ["--host", settings.host, "--port", str(settings.rest_port)]
        arguments += ["--triton-url", f"grpc://{settings.probe_host}:{settings.grpc_port}"]
        rest_environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._rest = await Process.start(
            "the REST shim", [sys.executable, "-m", "client.rest", *arguments], rest_environment
        )
        # The shim's readiness is a real embedding.
        await self._wait_ready(self._rest, f"http://{settings.probe_host}:{settings.rest_port}/health/ready")
        _say(f"the REST shim is ready after {time.monotonic() - began:.1f} s, an embedding included")

    async def _wait_ready(self, process: Process, url: str) -> None:
        deadline = time.monotonic() + self._settings.start_timeout_s
        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:
            while time.monotonic() < deadline:
                if process.exit_code is not None:
                    await process.kill()
                    raise process.failure("ended while it started")
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get(url)).status_code == httpx.codes.OK:
                        return
                await asyncio.sleep(_POLL_S)
        raise process.failure(f"was not ready after {self._settings.start_timeout_s:.0f} s")

    async def _stop(self) -> None:
        # The shim first: it finishes the requests that it has accepted, which needs Triton.
        if self._rest:
            await self._rest.stop(self._settings.stop_timeout_s)
        if self._triton:
            # Triton itself waits that long for requests in flight; a little more for its own exit.
            await self._triton.stop(self._settings.stop_timeout_s + 2.0)
        self._remove_shared_memory()

    def _remove_shared_memory(self) -> None:
        """Remove the regions that a killed Triton leaves behind: nobody else would."""
        for path in Path("/dev/shm").glob(f"{self._shm_prefix}*"):
            path.unlink(missing_ok=True)


def check_ports(settings: Settings) -> None:
    """Refuse a port that somebody listens on, before anything is started.

    Raises:
        PortTakenError: names the port's flag.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    for flag, port in settings.ports.items():
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, port))
            except OSError as error:
                raise PortTakenError(
                    f"cannot listen on {settings.host} port {port}: {error.strerror}; choose another with --{flag}"
                ) from error


# What Triton's build with CUDA says on every machine without a GPU, where nothing is wrong.
_NO_GPU_NOISE = ("CudaDriverHelper", "pinned_memory_manager", "unable to create stream")


def _is_warning(line: str) -> bool:
    """Whether a line of Triton's log is a warning or worse (`2026-01-31T12:00:00Z W 4711 …`), or no log line at all."""
    if not has_gpu() and any(noise in line for noise in _NO_GPU_NOISE):
        return False
    fields = line.split(" ", 2)
    return not (len(fields) > 1 and fields[1] in {"I", "V"}) and not line.startswith(("+", "|")) and bool(line.strip())


def _say(line: str, prefix: str = "serve: ") -> None:
    sys.stdout.write(f"{prefix}{line}\n")
    sys.stdout.flush()
