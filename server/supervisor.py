"""Starts Triton and the REST shim in order, restarts what certainly died, and stops both on a signal.

    start:  Triton -> one real embedding -> REST shim -> one more through it -> "ready: URL"
    watch:  Triton or the shim ended, or a process of a Triton step is gone  -> start that one anew
    stop:   SIGTERM, SIGINT or SIGHUP -> the shim finishes its requests -> Triton ends -> exit code 0

Triton 2.51 reports READY while the process of a Python step is dead and every request fails, and it never starts such a
process anew; so the loss of one is a certain death of Triton, and its readiness is asked for by an embedding.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import psutil

from server.errors import ProcessError
from server.model import ensure_exported
from server.probe import EMBEDDING
from server.process import TRITON_STACK_BYTES, Process, adopt_orphans
from server.settings import ROOT, Settings
from server.tracing import tracing_options
from server.triton import Installation, command, environment
from server.triton_log import line_filter

__all__ = ["Supervisor"]

_POLL_S = 0.1
_WATCH_S = 0.5
# Restarts within this many seconds of each other are one trouble: after some of them we give up, and leave it to the
# orchestrator, which can see more than we do.
_TROUBLE_S = 60.0
_MAX_RESTARTS = 5
# What a process gets beyond the time for its requests, for its own end.
_EXIT_S = 2.0


class Supervisor:
    """Owns both processes. `run` returns when it was asked to stop, and raises StartError when it must give up."""

    def __init__(self, settings: Settings, installation: Installation, threads: int) -> None:
        self._settings = settings
        self._installation = installation
        self._threads = threads
        # Random, because containers may share /dev/shm and all have the process number 1.
        self._shm_prefix = f"embedding-{os.getpid()}-{secrets.token_hex(4)}-"
        self._triton: Process | None = None
        self._steps: list[psutil.Process] = []
        self._rest: Process | None = None
        self._restarts: list[float] = []

    async def run(self) -> None:
        """Start, watch, stop."""
        adopt_orphans()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
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
        manifest = await ensure_exported(self._settings)
        _say(f"serve: {manifest.model}, {manifest.hidden_size} dimensions, {manifest.digest[:19]}")
        await self._start_triton()
        if self._settings.rest:
            await self._start_rest()
            _say(f"ready: http://{self._settings.probe_host}:{self._settings.rest_port}")
        else:
            _say(f"ready: grpc://{self._settings.probe_host}:{self._settings.grpc_port}")
        while True:
            await asyncio.sleep(_WATCH_S)
            await self._heal_triton()
            if self._rest and self._rest.exit_code is not None:
                self._count_restart(f"the REST shim ended with exit code {self._rest.exit_code}")
                await self._start_rest()

    async def _heal_triton(self) -> None:
        """Start Triton anew if it is certainly dead."""
        if self._triton is None or (death := self._death_of(self._triton)) is None:
            return
        self._count_restart(death)
        # A killed step makes Triton hang in its shutdown, and what is in flight is lost in any case.
        await self._triton.kill()
        self._remove_shared_memory()
        await self._start_triton()

    def _death_of(self, triton: Process) -> str | None:
        if triton.exit_code is not None:
            return f"Triton ended with exit code {triton.exit_code}"
        if not all(_lives(step) for step in self._steps):
            return "a process of a Triton step is dead"
        return None

    def _count_restart(self, reason: str) -> None:
        now = time.monotonic()
        self._restarts = [at for at in self._restarts if now - at < _TROUBLE_S]
        if len(self._restarts) >= _MAX_RESTARTS:
            raise ProcessError(f"{reason}, after {_MAX_RESTARTS} restarts within {_TROUBLE_S:.0f} s: giving up")
        self._restarts.append(now)
        _say(f"serve: {reason}: starting it anew")

    async def _start_triton(self) -> None:
        began = time.monotonic()
        _say("serve: starting Triton")
        settings = self._settings
        triton = await Process.start(
            "Triton",
            command(settings, self._installation, self._threads, self._shm_prefix) + tracing_options(os.environ),
            environment(os.environ, self._installation, self._threads, settings.triton_log != "warnings"),
            shows=line_filter(settings.triton_log),
            stack_bytes=TRITON_STACK_BYTES,
        )
        self._triton, self._steps = triton, []
        url = f"http://{settings.probe_host}:{settings.http_port}/v2/models/embedding/infer"
        await self._wait(triton, lambda http: http.post(url, json=EMBEDDING))
        self._steps = triton.children()
        _say(f"serve: Triton is ready after {time.monotonic() - began:.1f} s, an embedding included")

    async def _start_rest(self) -> None:
        began = time.monotonic()
        _say("serve: starting the REST shim")
        settings = self._settings
        arguments = ["--host", settings.host, "--port", str(settings.rest_port)]
        arguments += ["--triton-url", f"grpc://{settings.probe_host}:{settings.grpc_port}"]
        arguments += ["--stop-timeout-s", str(int(settings.stop_timeout_s))]
        rest = await Process.start(
            "the REST shim",
            [sys.executable, "-m", "client.rest", *arguments],
            {**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._rest = rest
        # The shim's readiness is a real embedding, and Triton may die while we wait for it.
        url = f"http://{settings.probe_host}:{settings.rest_port}/health/ready"
        await self._wait(rest, lambda http: http.get(url), self._heal_triton)
        _say(f"serve: the REST shim is ready after {time.monotonic() - began:.1f} s, an embedding included")

    async def _wait(
        self,
        process: Process,
        ask: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]],
        meanwhile: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Wait until a process answers OK.

        Raises:
            ProcessError: it ended, or the time is up.
        """
        deadline = time.monotonic() + self._settings.start_timeout_s
        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:
            while time.monotonic() < deadline:
                if process.exit_code is not None:
                    await process.kill()
                    raise process.failure("ended while it started")
                with contextlib.suppress(httpx.TransportError):
                    if (await ask(http)).status_code == httpx.codes.OK:
                        return
                if meanwhile is not None:
                    await meanwhile()
                await asyncio.sleep(_POLL_S)
        raise process.failure(f"was not ready after {self._settings.start_timeout_s:.0f} s")

    async def _stop(self) -> None:
        # The shim first: it finishes the requests that it has accepted, which needs Triton.
        try:
            if self._rest:
                await self._rest.stop(self._settings.stop_timeout_s + _EXIT_S)
        finally:
            try:
                if self._triton:
                    await self._triton.stop(self._settings.stop_timeout_s + _EXIT_S)
            finally:
                self._remove_shared_memory()

    def _remove_shared_memory(self) -> None:
        """Remove the regions that a killed Triton leaves behind: nobody else would."""
        for path in Path("/dev/shm").glob(f"{self._shm_prefix}*"):
            path.unlink(missing_ok=True)


def _lives(process: psutil.Process) -> bool:
    """Whether it is still that process, and more than an entry that nobody has collected."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _say(line: str) -> None:
    """Tell the user; who closed our output does not want to know, and the service goes on."""
    with contextlib.suppress(OSError):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
