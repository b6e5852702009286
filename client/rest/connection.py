"""One HTTP connection, as uvicorn speaks it, and what it may cost us: time, memory, and a place among the others.

    head  ->  at overload: 429 at once, whatever the body  ->  body  ->  the application  ->  answer  ->  the next head

A client that is slow, or silent, or never reads its answer keeps nothing but its connection, and that for a bounded
time; when there are too many connections, the one that has been idle longest makes room. So neither slow clients nor
many of them can take the service from the others.

The refusal is here and not in the application because of what it costs: 40 µs, and 430 in a route (2-core x86, uvicorn
0.54, FastAPI 0.165). At ten times the capacity the difference is a sixth of the processors.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

__all__ = ["Bounds", "Connection", "Refusal", "Watch", "affordable", "connection_class"]

_log = logging.getLogger(__name__)

_SWEEP_S = 0.5
_LEAST_BYTES_PER_S = 10_000
# A head; and what a body has beside its content, sizes of chunks and trailers. Clients send some hundred bytes.
_MOST_OVERHEAD_BYTES = 64 * 1024
_OTHER_FILES = 64  # Triton's connection, logs, what libraries open
_MOST_AROUND = 6  # times its content: a chunk of one byte has its size and two ends of lines beside it


@dataclass(frozen=True)
class Refusal:
    """An answer that is given before the application is asked. `headers` are whole lines."""

    status: int
    headers: bytes
    body: bytes


@dataclass(frozen=True)
class Bounds:
    """What connections may take.

    Attributes:
        most: connections at a time.
        receive_s: for a head; and for a body, beyond what it needs at 10 kB/s.
        send_s: for a client to take what is ready for it, a quarter of a megabyte.
        idle_s: between two requests.
    """

    most: int
    receive_s: float
    send_s: float
    idle_s: float


def affordable(bounds: Bounds) -> Bounds:
    """The bounds with no more connections than this process may open files, some for other things left aside."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY or bounds.most <= files - _OTHER_FILES:
        return bounds
    most = max(1, files - _OTHER_FILES)
    _log.warning("at most %d connections and not %d: this process may open %d files", most, bounds.most, files)
    return dataclasses.replace(bounds, most=most)


# The path of a POST and its X-Request-ID, both as they came  ->  how it is refused, or None.
Refuse = Callable[[bytes, bytes], Refusal | None]


class Watch:
    """What the connections of a server have in common: their bounds, who refuses, and the clock that ends them.

    Attributes:
        too_slow: the answer to a request that does not come in time.
        too_long: and to one with an endless head.
        stopping: whether the server is about to end, so that each refusal closes its connection.
    """

    def __init__(self, bounds: Bounds, refuse: Refuse, too_slow: Refusal, too_long: Refusal) -> None:
        self.bounds = bounds
        self.refuse = refuse
        self.too_slow = too_slow
        self.too_long = too_long
        self.stopping: Callable[[], bool] = lambda: False
        self._open: set[Connection] = set()
        self._sweeping: asyncio.TimerHandle | None = None

    def joined(self, connection: Connection) -> None:
        """A connection was made; another one may have to go for it."""
        if len(self._open) >= self.bounds.most:
            idle = [each for each in self._open if not each.working]
            goes = min(idle, key=lambda each: each.since) if idle else connection
            goes.transport.abort()
            self._open.discard(goes)
            if goes is connection:
                return
        self._open.add(connection)
        if self._sweeping is None:
            self._sweeping = connection.loop.call_later(_SWEEP_S, self._sweep, connection.loop)

    def left(self, connection: Connection) -> None:
        """A connection has ended."""
        self._open.discard(connection)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        # One clock for all costs less than a timer for each request.
        now = loop.time()
        for connection in [each for each in self._open if each.due < now]:
            connection.overdue()
        self._sweeping = loop.call_later(_SWEEP_S, self._sweep, loop) if self._open else None


class Connection(HttpToolsProtocol):
    """uvicorn's protocol within the bounds of a Watch. Use a class made by `connection_class`.

    Attributes:
        since: when it began what it does now, in the event loop's time.
        due: until when it must have done it.
    """

    watch: Watch

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.since = self.due = 0.0
        self._receiving = False  # a request has begun to come, and has not ended
        self._began = False  # a request, in the data that is parsed now
        self._content_bytes = 0  # of bodies, in the data that is parsed now
        self._overhead_bytes = 0  # of this request, beside its body
        self._refused = False  # this request: what comes of its body is thrown away
        self._last = False  # it closes when this request has come

    @property
    def answering(self) -> bool:
        """Whether the application has a request of it, or the head of one."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def working(self) -> bool:
        """Whether it waits for us, and not we for it."""
        return self.answering and not self._receiving and not self.flow.write_paused

    def overdue(self) -> None:
        """What it does was due."""
        if self.transport.is_closing() or self.flow.write_paused:
            self.transport.abort()  # an answer that is not read
        elif self.flow.read_paused:
            self._begin(self.watch.bounds.receive_s)  # it is us who do not read yet
        elif self._receiving:
            self._turn_away(self.watch.too_slow)
        else:
            self.transport.close()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a head."""
        super().connection_made(transport)
        self._begin(self.watch.bounds.receive_s)
        self.watch.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room for another one."""
        self.watch.left(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and bound what is neither body nor the whole of a head."""
        self._began, self._content_bytes = False, 0
        super().data_received(data)
        if self._receiving and not self._began:
            self._overhead_bytes += max(0, len(data) - _MOST_AROUND * self._content_bytes)
            if self._overhead_bytes > _MOST_OVERHEAD_BYTES:
                self._turn_away(self.watch.too_long)

    def pause_writing(self) -> None:
        """The client takes its answer more slowly than it is made."""
        super().pause_writing()
        self._begin(self.watch.bounds.send_s)

    def resume_writing(self) -> None:
        """It has taken what was ready."""
        super().resume_writing()
        self._begin(math.inf if self.answering else self.watch.bounds.idle_s)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._began = self._receiving = True
        self._refused = False
        self._overhead_bytes = 0
        self._begin(self.watch.bounds.receive_s)

    def on_headers_complete(self) -> None:
        """Its head is complete: refuse it, or hand it on."""
        self._begin(self.watch.bounds.receive_s)
        if self.parser.get_method() == b"POST" and not self.answering:
            refusal = self.watch.refuse(self.url.partition(b"?")[0], self._header(b"x-request-id"))
            if refusal is not None:
                self._refused = True
                self._refuse(refusal)
                return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """More time for more bytes."""
        self._content_bytes += len(body)
        self.due = min(self.due + len(body) / _LEAST_BYTES_PER_S, self.loop.time() + self.watch.bounds.receive_s)
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request has come."""
        self._receiving = False
        if self._refused:
            self._begin(self.watch.bounds.idle_s)
            if self._last:
                self.transport.close()
            return
        self._begin(math.inf if self.answering else self.watch.bounds.idle_s)
        super().on_message_complete()

    # What uvicorn calls.

    def on_response_complete(self) -> None:
        """The application is done."""
        super().on_response_complete()
        if not self.answering and not self._receiving and not self.flow.write_paused:
            self._begin(self.watch.bounds.send_s if self.transport.is_closing() else self.watch.bounds.idle_s)

    def _begin(self, seconds: float) -> None:
        self.since = self.loop.time()
        self.due = self.since + seconds

    def _refuse(self, refusal: Refusal) -> None:
        """Answer now, while the body may still come: who gets its answer late has waited for nothing."""
        self._last = not self.parser.should_keep_alive() or self.expect_100_continue or self.watch.stopping()
        self._write(refusal, close=self._last)
        if self.expect_100_continue:
            self.transport.close()  # it was waiting for our word, and its body will not come

    def _turn_away(self, refusal: Refusal) -> None:
        """Answer what has not come, and close."""
        if self.answering and self.cycle.response_started:
            self.transport.abort()
            return
        if not self._refused:
            self._write(refusal, close=True)
        self.transport.close()
        self._begin(self.watch.bounds.send_s)

    def _write(self, refusal: Refusal, close: bool) -> None:
        lines = [STATUS_LINE[refusal.status]]
        for name, value in self.server_state.default_headers:
            lines += (name, b": ", value, b"\r\n")
        if close:
            lines.append(b"connection: close\r\n")
        lines += (refusal.headers, b"content-length: %d\r\n\r\n" % len(refusal.body), refusal.body)
        self.transport.write(b"".join(lines))

    def _header(self, wanted: bytes) -> bytes:
        return next((value for name, value in self.headers if name == wanted), b"")


def connection_class(watch: Watch) -> type[Connection]:
    """The class of a server's connections, as uvicorn wants it."""
    return type("Connection", (Connection,), {"watch": watch})
