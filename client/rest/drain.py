"""An end without a failed request: on SIGTERM the shim first lets go of its connections, and only then stops.

    SIGTERM  ->  drain_s: requests are still taken, each answer closes its connection, readiness says so
             ->  half a second: no new connections, those that were just made still bring their request
             ->  stop_timeout_s: nothing new, what is in flight is finished, or refused in the end  ->  exit

A server that closes a connection just as the client sends its next request on it makes that request fail, and most
clients do not repeat a POST. With "Connection: close" in the last answer the client knows.
"""

from __future__ import annotations

import asyncio
import socket
from types import FrameType

import orjson
import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Draining", "Server"]

# Between a client's connection and its request: a round trip, or a busy machine.
_REQUEST_S = 0.5

_STOPPED = Response(
    orjson.dumps({"error": {"type": "unavailable", "message": "the service has stopped; try again later"}}),
    status_code=503,
    headers={"Retry-After": "3"},
    media_type="application/json",
)


class Draining:
    """Closes each connection with its next answer, once `begin` was called."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""

        started = False

        async def tell(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if self.begun:
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        try:
            await self._app(scope, receive, tell)
        except asyncio.CancelledError:
            # The time for what is in flight is over.
            if started or not self.begun:
                raise
            await _STOPPED(scope, receive, tell)


class Server(uvicorn.Server):
    """A server that drains before it stops; a second signal skips that."""

    def __init__(self, config: uvicorn.Config, draining: Draining, drain_s: float) -> None:
        super().__init__(config)
        self._draining = draining
        self._drain_s = drain_s
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """What a signal does."""
        if self._draining.begun or self._loop is None:
            super().handle_exit(sig, frame)
            return
        self._draining.begun = True
        self._loop.call_soon_threadsafe(self._loop.call_later, self._drain_s, self._stop_listening, sig, frame)

    def _stop_listening(self, sig: int, frame: FrameType | None) -> None:
        for server in self.servers:
            server.close()
        asyncio.get_running_loop().call_later(_REQUEST_S, super().handle_exit, sig, frame)
