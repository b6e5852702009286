"""The leanest HTTP/1.1 client that does: one keep-alive connection, one request at a time, no redirects, no TLS.

The load generator runs on the processors that it measures, so what it costs is taken from every side. This takes
29 µs of processor time a request, aiohttp 220 and httpx 1260 (2-core x86, answers of 5 KB, one connection, uvloop).
"""

from __future__ import annotations

import asyncio
from typing import Self, cast
from urllib.parse import urlsplit

import httptools

from benchmarks.errors import BenchmarkError

__all__ = ["Connection", "post_bytes"]


def post_bytes(url: str, body: bytes) -> bytes:
    """A whole request, ready to be sent any number of times."""
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    head = (
        f"POST {path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Accept: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """A connection to one server."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._body: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect to the host of a URL."""
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise BenchmarkError(f"wanted http://HOST:PORT/…, got {url!r}")
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(cls, parts.hostname, parts.port or 80)
        except OSError as error:
            raise BenchmarkError(f"{url}: {error}") from error
        return connection

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Send `post_bytes(…)`; status and body of the answer."""
        return await self.start(request)

    def start(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """As `send`, for those who do not want a task for each request."""
        if self._transport is None or self._transport.is_closing():
            raise BenchmarkError("the server closed the connection")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    @property
    def closed(self) -> bool:
        """Whether the server, or we, have closed it."""
        return self._transport is None or self._transport.is_closing()

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"not HTTP: {error}")

    def connection_lost(self, exception: Exception | None) -> None:
        """Fail the request that waits, if any."""
        self._fail("the server closed the connection before it answered")

    # What httptools calls.

    def on_message_begin(self) -> None:
        """Begin with an empty body."""
        self._body.clear()

    def on_body(self, body: bytes) -> None:
        """Gather the body, whether it comes in chunks or by length."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Hand the answer over."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), b"".join(self._body)))

    def _fail(self, reason: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(BenchmarkError(reason))
