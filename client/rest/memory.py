"""What all requests together hold in memory, bounded: bodies while they come and are worked on, and vectors until they
are sent.

A small request is never refused for what large ones hold: so much is every request's own, and only what is beyond it
comes out of what all have in common.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from client.errors import Overloaded

__all__ = ["Held", "Memory", "held_by"]

# A request of 32 long texts. With 1,000 connections that is 64 MB, whoever asks.
_OWN_BYTES = 64 * 1024
_RETRY_AFTER_S = 5.0


class Memory:
    """ASGI middleware that counts the bytes of bodies, and what else is reported to it.

    Attributes:
        held_bytes: by all requests now, beyond what is each one's own.
    """

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app = app
        self.most_bytes = most_bytes
        self.held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held = Held(self)
        scope["state"]["held"] = held

        async def counted() -> Message:
            message = await receive()
            if body := message.get("body"):
                held.add(len(body))
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            held.release()


class Held:
    """What one request holds."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._bytes = 0

    def add(self, count: int) -> None:
        """Hold so many bytes more.

        Raises:
            Overloaded: all requests together would hold too much.
        """
        before = self._common(self._bytes)
        more = self._common(self._bytes + count) - before
        if more and self._memory.held_bytes + more > self._memory.most_bytes:
            raise Overloaded("the requests of the moment hold too much memory", _RETRY_AFTER_S)
        self._bytes += count
        self._memory.held_bytes += more

    def release(self) -> None:
        """Hold nothing any more."""
        self._memory.held_bytes -= self._common(self._bytes)
        self._bytes = 0

    @staticmethod
    def _common(count: int) -> int:
        return max(0, count - _OWN_BYTES)


def held_by(scope: MutableMapping[str, Any]) -> Held:
    """What the request of a scope holds."""
    held: Held = scope["state"]["held"]
    return held
