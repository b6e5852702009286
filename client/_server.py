"""The server that a client speaks to, as it knows it: the connection, and the manifest read through it.

A client may be led over to another server while calls are under way. Each call keeps to the server that it began with,
so that its vectors are of one model; a server that was left is let go when its last call has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from client._manifest import Manifest
from client._transport import Transport

__all__ = ["Server"]


class Server:
    """One server.

    `manifest` is None until it was asked for, and again after the server was away; `changes` counts how often it may
    have gone or come.
    """

    def __init__(self, connect: Callable[[Callable[[], None]], Transport]) -> None:
        """Args:
        connect: makes the transport; is given what to call when a connection is made or lost.
        """
        self.manifest: Manifest | None = None
        self.changes = 0
        self.transport = connect(self.forget)
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def forget(self) -> None:
        """A server that was away may come back with another model."""
        self.changes += 1
        self.manifest = None

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Around each call."""
        self._calls += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if self._calls == 0:
                self._idle.set()

    async def close_when_idle(self) -> None:
        """Close the connection when no call needs it any more."""
        await self._idle.wait()
        await self.transport.close()
