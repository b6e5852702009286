"""Starts Triton and the REST shim in order, restarts what certainly died, updates the model, and stops on a signal.

start:   Triton -> one real embedding -> REST shim -> one more through it -> "ready: URL"
heal:    Triton or the shim is certainly dead -> start that one anew
update:  a second Triton -> one real embedding -> the shim goes over -> the first Triton finishes and stops
stop:    SIGTERM, SIGINT or SIGHUP -> the shim finishes its requests -> Triton ends -> exit code 0
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

from export.errors import ManifestInvalid
from export.manifest import Manifest, check
from server.control import Say, take_orders
from server.errors import ModelError, ProcessError
from server.model import ensure_exported
from server.ports import free_port
from server.process import adopt_orphans
from server.relay import relaying
from server.rest_shim import RestShim
from server.settings import Settings
from server.triton import Installation
from server.triton_server import TritonServer
from server.watch import first_of

__all__ = ["Supervisor"]

# Restarts within this many seconds of each other are one trouble: after some of them we give up, and leave it to the
# orchestrator, which can see more than we do.
_TROUBLE_S = 60.0
# What cannot be started, for want of memory or space, say, is tried again after this, growing, up to the most.
_AGAIN_S = 1.0
_AGAIN_MOST_S = 10.0


class Supervisor:
    """Owns both processes. `run` returns when it was asked to stop, and raises StartError when it must give up."""

    def __init__(
        self, settings: Settings, installation: Installation, threads: int, listening: socket.socket | None
    ) -> None:
        """Args:
        listening: the shim's socket, bound; None for no shim.
        """
        self._settings = settings
        self._installation = installation
        self._threads = threads
        self._listening = listening
        self._triton: TritonServer | None = None
        self._rest: RestShim | None = None
        self._relay: asyncio.Server | None = None
        self._restarts: list[float] = []
        # Held by who replaces `_triton`: a restart or an update.
        self._replacing = asyncio.Lock()

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
        settings = self._settings
        manifest = await ensure_exported(settings)
        _say(f"serve: {manifest.model}, {manifest.hidden_size} dimensions, {manifest.digest[:19]}")
        triton = self._server(settings.model_repository, manifest, settings.metrics_port)
        await _timed("Triton", triton.start())
        self._triton = triton
        keep = [self._keep_triton(triton), take_orders(settings.control_socket, self._update)]
        if self._listening is None:
            _say(f"ready: grpc://{settings.probe_host}:{settings.grpc_port}")
        else:
            self._rest = RestShim(settings, self._listening)
            keep.append(self._keep_rest(self._rest))
        await first_of(keep)

    async def _keep_triton(self, triton: TritonServer) -> NoReturn:
        while True:
            death = await triton.death()
            async with self._replacing:
                if triton is self._triton:  # and not one that an update has stopped
                    await self._restart_triton(triton, death)
            triton = self._triton or triton

    async def _restart_triton(self, dead: TritonServer, death: str) -> None:
        self._count_restart(death)
        await dead.kill()
        self._close_relay()

        async def start() -> None:
            # Its files may have been damaged meanwhile, or another export may have taken their place.
            new = self._server(dead.repository, await _checked(dead.repository), self._settings.metrics_port)
            await new.start()
            self._triton = new

        await self._start_again("Triton", start)

    async def _keep_rest(self, rest: RestShim) -> NoReturn:
        def triton() -> str:
            return self._triton.name if self._triton else ""

        await _timed("the REST shim", rest.start(triton))
        _say(f"ready: http://{self._settings.probe_host}:{self._settings.rest_port}")
        while True:
            self._count_restart(await rest.death())
            await rest.kill()
            await self._start_again("the REST shim", lambda: rest.start(triton))

    async def _start_again(self, name: str, start: Callable[[], Awaitable[None]]) -> None:
        """Start what served before: it may fail for want of memory or space, which may come back."""
        deadline = time.monotonic() + self._settings.start_timeout_s
        pause_s = _AGAIN_S
        while True:
            try:
                await _timed(name, start())
            except ProcessError as error:
                if time.monotonic() + pause_s > deadline:
                    raise
                _say(f"serve: {str(error).splitlines()[0]}: trying again in {pause_s:.0f} s")
            else:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _AGAIN_MOST_S)

    async def _update(self, repository: Path, say: Say) -> None:
        """Serve another repository, or the same anew, without a request that fails: the old one serves until then.

        Raises:
            StartError: the new one does not serve; the old one goes on.
        """
        manifest = await _checked(repository)
        say(f"loading {manifest.model}, {manifest.digest[:19]}, beside the model that is served")
        new = self._server(repository, manifest, free_port(self._settings.host))
        await new.start()
        try:
            async with self._replacing:
                old, self._triton = self._triton, new
        except asyncio.CancelledError:
            await new.kill()
            raise
        try:
            say("it embeds: new requests go to it, and those that have begun are finished with the former model")
            await self._hand_over(new.name)
        finally:
            if old is not None:
                await old.stop()
            await self._relay_metrics(new.metrics_port)
        _say(f"serve: updated to {manifest.model}, {manifest.hidden_size} dimensions, {manifest.digest[:19]}")

    async def _hand_over(self, triton: str) -> None:
        """Lead the shim over. One that ends meanwhile is started anew in front of the new Triton anyway."""
        if self._rest is None:
            return
        try:
            await self._rest.move(triton)
            async with asyncio.timeout(self._settings.start_timeout_s):
                await self._rest.settle()
        except (ProcessError, TimeoutError) as error:
            _say(f"serve: the REST shim did not go over as it should: {error}")

    async def _relay_metrics(self, port: int) -> None:
        self._close_relay()
        settings = self._settings
        try:
            self._relay = await relaying(settings.host, settings.metrics_port, settings.probe_host, port)
        except OSError as error:
            _say(f"serve: Triton's metrics are on port {port} only, {settings.metrics_port} cannot be had: {error}")

    def _close_relay(self) -> None:
        if self._relay is not None:
            self._relay.close()
            self._relay = None

    def _server(self, repository: Path, manifest: Manifest, metrics_port: int) -> TritonServer:
        return TritonServer(self._settings, self._installation, self._threads, repository, manifest, metrics_port)

    def _count_restart(self, reason: str) -> None:
        now = time.monotonic()
        most = self._settings.max_restarts
        self._restarts = [at for at in self._restarts if now - at < _TROUBLE_S]
        if len(self._restarts) >= most:
            raise ProcessError(f"{reason}, after {most} restarts within {_TROUBLE_S:.0f} s: giving up")
        self._restarts.append(now)
        _say(f"serve: {reason}: starting it anew")

    async def _stop(self) -> None:
        self._close_relay()
        if self._listening is not None:
            self._listening.close()  # whoever connects while the shim ends is refused at once
        # The shim first: it finishes the requests that it has accepted, which needs Triton.
        try:
            if self._rest is not None:
                await self._rest.stop()
        finally:
            if self._triton is not None:
                await self._triton.stop()


async def _checked(repository: Path) -> Manifest:
    """Prove that a repository is whole; a damaged one may load, and give wrong vectors.

    Raises:
        ModelError: it is not; names each file.
    """
    try:
        return await asyncio.to_thread(check, repository)
    except ManifestInvalid as error:
        raise ModelError(str(error)) from error


async def _timed(name: str, start: Awaitable[None]) -> None:
    began = time.monotonic()
    _say(f"serve: starting {name}")
    await start
    _say(f"serve: {name} is ready after {time.monotonic() - began:.1f} s, an embedding included")


def _say(line: str) -> None:
    """Tell the user; who closed our output does not want to know, and the service goes on."""
    with contextlib.suppress(OSError):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
