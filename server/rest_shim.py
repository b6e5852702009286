"""The running REST shim: its start, its line to the supervisor, and its end.

The shim inherits two sockets: the one that it listens on, which is the supervisor's, so that connections wait in it
while a shim is started anew; and a line for orders, one JSON object a line in each direction:

    {"id": 1, "do": "ping"}                  ->  {"id": 1, "error": null}    its event loop runs
    {"id": 2, "do": "move", "to": "NAME"}    ->  {"id": 2, "error": null}    new requests go to the Triton of that name
    {"id": 3, "do": "settle"}                ->  {"id": 3, "error": null}    no request is at an earlier one any more
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import sys
from collections.abc import Callable

import httpx
import psutil

from server.errors import ProcessError
from server.hang import HangLimits
from server.process import Process
from server.settings import ROOT, Settings
from server.watch import Part, certain_death, first_of

__all__ = ["RestShim"]

_POLL_S = 0.1
_ASK_S = 5.0
# What the shim gets beyond the time for its requests, for its own end.
_EXIT_S = 3.0


class RestShim:
    """A shim in front of the Triton on the settings' gRPC port."""

    def __init__(self, settings: Settings, listening: socket.socket) -> None:
        self._settings = settings
        self._listening = listening
        self._process: Process | None = None
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[str | None]] = {}
        self._orders: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self, triton: Callable[[], str]) -> None:
        """Start it, and wait until it embeds. If that fails, nothing is left of it.

        Args:
            triton: the name of the Triton that it shall stand in front of; another one when that is started anew.

        Raises:
            ProcessError: it ended, or the time is up.
        """
        settings = self._settings
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = ["--host", settings.host, "--port", str(settings.rest_port)]
            arguments += ["--listen-fd", str(self._listening.fileno()), "--control-fd", str(theirs.fileno())]
            arguments += ["--triton-url", f"grpc://{settings.probe_host}:{settings.grpc_port}"]
            arguments += ["--stop-timeout-s", str(int(settings.stop_timeout_s))]
            self._process = await Process.start(
                "the REST shim",
                [sys.executable, "-m", "client.rest", *arguments],
                {**os.environ, "PYTHONPATH": str(ROOT)},
                pass_fds=(self._listening.fileno(), theirs.fileno()),
            )
        reader, self._orders = await asyncio.open_connection(sock=ours)
        self._reading = asyncio.create_task(self._read(reader))
        try:
            await self._wait_ready(self._process, triton)
        except BaseException:
            await self.kill()
            raise

    async def move(self, triton: str) -> None:
        """Have new requests go to the Triton of that name, on the same port.

        Raises:
            ProcessError: it could not, or it ended.
        """
        await self._order(do="move", to=triton)

    async def settle(self) -> None:
        """Wait until no request is at an earlier Triton any more.

        Raises:
            ProcessError: it ended.
        """
        await self._order(do="settle")

    async def death(self) -> str:
        """Wait until it is certainly dead; says why."""
        process = self._running
        return await first_of([self._end(process), self._hang(process)])

    async def stop(self) -> None:
        """Let it finish its requests, within the time for that."""
        if self._process is not None:
            await self._process.stop(self._settings.stop_timeout_s + _EXIT_S)
            await self._hang_up()

    async def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            await self._process.kill()
            await self._hang_up()

    @property
    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError("wanted a shim that was started")
        return self._process

    async def _wait_ready(self, process: Process, triton: Callable[[], str]) -> None:
        url = f"http://{self._settings.probe_host}:{self._settings.rest_port}/health/ready"
        try:
            async with (
                asyncio.timeout(self._settings.start_timeout_s),
                httpx.AsyncClient(trust_env=False, timeout=_ASK_S) as http,
            ):
                # The shim's readiness is a real embedding, and Triton may die and come back while we wait for it.
                while not (await self._goes(triton()) and await _is_ok(http, url)):
                    if self._hung_up:
                        await self.kill()  # the log is whole then
                        raise process.failure("ended while it started")
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise process.failure(f"was not ready after {self._settings.start_timeout_s:.0f} s") from error

    @property
    def _hung_up(self) -> bool:
        return self._reading is None or self._reading.done()

    async def _goes(self, triton: str) -> bool:
        try:
            await self.move(triton)
        except ProcessError:
            return False
        return True

    async def _end(self, process: Process) -> str:
        return f"the REST shim ended with exit code {await process.wait()}"

    async def _hang(self, process: Process) -> str:
        settings = self._settings
        if settings.hang_timeout_s == 0:
            await asyncio.Event().wait()
        shim = Part("the REST shim", self._ping, [psutil.Process(process.pid)])
        return await certain_death(self._ping, [shim], HangLimits(settings.hang_timeout_s, settings.stuck_timeout_s))

    async def _ping(self) -> None:
        with contextlib.suppress(ProcessError):  # its end is seen elsewhere
            await self._order(do="ping")

    async def _order(self, **order: str) -> None:
        process = self._running
        number = next(self._ids)
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        try:
            if self._orders is None or self._hung_up:
                raise process.failure("has hung up")
            self._orders.write(json.dumps({"id": number, **order}).encode() + b"\n")
            error = await answer
        finally:
            del self._answers[number]
        if error is not None:
            raise process.failure(f"could not {order['do']}: {error}")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                message = json.loads(line)
                if (answer := self._answers.get(message["id"])) is not None and not answer.done():
                    answer.set_result(message["error"])
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result("it has hung up")

    async def _hang_up(self) -> None:
        if self._orders is not None:
            self._orders.close()
            self._orders = None
        if self._reading is not None:
            await self._reading


async def _is_ok(http: httpx.AsyncClient, url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return (await http.get(url)).status_code == httpx.codes.OK
    return False
