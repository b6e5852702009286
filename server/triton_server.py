"""One running Triton: from its start to its first embedding, until it is certainly dead or is stopped.

start:  process  ->  all models loaded  ->  an embedding from this very server
watch:  process ended | a process of a step ended | a part hangs | an error that stays  ->  why it is dead

Triton 2.51 reports READY while the process of a Python step is dead and every request fails, and it never starts such a
process anew; so the loss of one is a certain death of Triton, and its readiness is asked for by an embedding.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from pathlib import Path

import httpx
import psutil

from export.manifest import Manifest
from server.hang import HangLimits
from server.process import TRITON_STACK_BYTES, Process, ended
from server.questions import STEPS, EnsembleQuestion, StepQuestion, embeds
from server.settings import Settings
from server.tracing import tracing_options
from server.triton import Installation, command, environment
from server.triton_log import line_filter
from server.watch import Part, certain_death, first_of

__all__ = ["TritonServer"]

_POLL_S = 0.1
# What Triton gets beyond the time for its requests, for its own end: it takes 3 s even when it is idle.
_EXIT_S = 5.0
_STUB = "triton_python_backend_stub"


class TritonServer:
    """A Triton with one repository. `name` tells it from another one on the same ports."""

    def __init__(
        self,
        settings: Settings,
        installation: Installation,
        threads: int,
        repository: Path,
        manifest: Manifest,
        metrics_port: int,
    ) -> None:
        """Args:
        repository: whole, and checked against `manifest`.
        metrics_port: the only port that two servers cannot share.
        """
        # Random, because containers may share /dev/shm and all have the process number 1.
        self.name = f"embedding-{os.getpid()}-{secrets.token_hex(4)}"
        self.repository = repository
        self.manifest = manifest
        self.metrics_port = metrics_port
        self._settings = settings
        self._command = [
            *command(settings, installation, threads, repository, self.name, metrics_port),
            *tracing_options(os.environ),
        ]
        self._environment = environment(os.environ, installation, threads, settings.triton_log != "warnings")
        self._url = f"http://{settings.probe_host}:{settings.http_port}"
        self._process: Process | None = None
        self._steps: list[psutil.Process] = []

    async def start(self) -> None:
        """Start it, and wait for an embedding. If that fails, nothing is left of it.

        Raises:
            StartError: it ended, the time is up, or its model is not that of the manifest.
        """
        deadline = time.monotonic() + self._settings.start_timeout_s
        try:
            self._process = process = await Process.start(
                "Triton",
                self._command,
                self._environment,
                shows=line_filter(self._settings.triton_log),
                stack_bytes=TRITON_STACK_BYTES,
            )
            while not await embeds(self._url, self.name, self.manifest):
                if process.exit_code is not None:
                    await self.kill()  # the log is whole then
                    raise process.failure("ended while it started")
                if time.monotonic() > deadline:
                    raise process.failure(f"was not ready after {self._settings.start_timeout_s:.0f} s")
                await asyncio.sleep(_POLL_S)
            self._steps = [child for child in process.children() if _step_of(child) is not None]
        except BaseException:
            await self.kill()
            raise

    async def death(self) -> str:
        """Wait until it is certainly dead; says why."""
        process = self._running
        return await first_of([self._end(process), *(self._loss(step) for step in self._steps), self._hang(process)])

    async def stop(self) -> None:
        """Let it finish its requests, within the time for that."""
        try:
            if self._process is not None:
                await self._process.stop(self._settings.stop_timeout_s + _EXIT_S)
        finally:
            self._clean_up()

    async def kill(self) -> None:
        """End it at once. (A killed step makes Triton hang in its shutdown, and what is in flight is lost anyway.)"""
        if self._process is not None:
            await self._process.kill()
        self._clean_up()

    @property
    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError("wanted a server that was started")
        return self._process

    def _clean_up(self) -> None:
        """Remove the regions in /dev/shm that a killed Triton leaves behind: nobody else would."""
        for path in Path("/dev/shm").glob(f"{self.name}-*"):
            path.unlink(missing_ok=True)

    async def _end(self, process: Process) -> str:
        return f"Triton ended with exit code {await process.wait()}"

    async def _loss(self, step: psutil.Process) -> str:
        await ended(step.pid)
        return "a process of a Triton step is dead"

    async def _hang(self, process: Process) -> str:
        settings = self._settings
        if settings.hang_timeout_s == 0:
            await asyncio.Event().wait()
        triton = psutil.Process(process.pid)
        async with httpx.AsyncClient(base_url=self._url, timeout=None, trust_env=False) as http:
            ensemble = EnsembleQuestion(http)

            async def is_live() -> None:
                with contextlib.suppress(httpx.TransportError):
                    await http.get("/v2/health/live")

            parts = [Part("Triton", is_live, [triton])]
            for step in STEPS:
                question = StepQuestion(http, step)
                # The C++ backend runs its step inside Triton's own process.
                own = [child for child in self._steps if _step_of(child) == step]
                parts.append(Part(step, question, own or [triton], question.finished))
            parts.append(Part("the ensemble", EnsembleQuestion(http), [triton, *self._steps]))
            return await certain_death(ensemble, parts, HangLimits(settings.hang_timeout_s, settings.stuck_timeout_s))


def _step_of(process: psutil.Process) -> str | None:
    """The step whose Python process this is: its first argument is the model's file, …/bert/1/model.onnx."""
    try:
        command_line = process.cmdline()
    except psutil.Error:
        return None
    if len(command_line) > 1 and command_line[0].endswith(_STUB):
        return Path(command_line[1]).parts[-3]
    return None
