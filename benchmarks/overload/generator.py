"""The load generator: requests are sent at their moments, whatever became of those before.

    python -m benchmarks.overload.generator      one question per line on standard input, see `Storm` and `Crowd`

A closed loop sends less when the server gets slow, and so hides what overload is; here it serves to find the capacity
only. Latency counts from the moment at which a request was to be sent, so that a late generator makes figures worse and
not better. Connections are kept alive and as many as are needed. Moments are rounded up to a tick, and what is due goes
at once: fewer wake-ups, because the generator runs on the processors that it measures.

Every text begins with a number that no other request has, so that no cache knows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import uvloop

from benchmarks.errors import BenchmarkError, WrongAnswer
from benchmarks.http_client import Connection, post_bytes
from benchmarks.overload.arrivals import arrivals
from benchmarks.shapes import SHAPES, encoded
from benchmarks.worker import serve

__all__ = ["LOST", "Crowd", "Outcomes", "Storm", "capacity", "storm"]

_SHAPE = SHAPES["embedding"]
_TICK_S = 0.002
_NUMBER = "0000000"
LOST = 0  # the status of a request that got no answer


@dataclass(frozen=True)
class Storm:
    """An open loop: what to send, where, how often and for how long.

    Attributes:
        url: `http://HOST:PORT/PATH`.
        requests: the texts of each.
        per_s: requests per second, on average.
        patience_s: what is not answered so long after the last arrival is lost.
    """

    url: str
    requests: Sequence[Sequence[str]]
    per_s: float
    seconds: float
    seed: int = 0
    max_length: int = 128
    patience_s: float = 60.0


@dataclass(frozen=True)
class Crowd:
    """A closed loop: so many clients, each of which sends its next request as soon as it has its answer."""

    url: str
    requests: Sequence[Sequence[str]]
    clients: int
    seconds: float
    warmup_s: float = 1.0
    max_length: int = 128


@dataclass
class Outcomes:
    """One entry per request, in the order of their arrival; and what the generator itself used and how late it was."""

    at_s: list[float] = field(default_factory=list)
    latency_s: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    texts: list[int] = field(default_factory=list)
    retry_after_s: list[float] = field(default_factory=list)  # NaN: none was told
    cpu_s: float = 0.0
    late_s: float = 0.0  # at most
    connections: int = 0


class _Client(Connection):
    """A connection that remembers Retry-After of its last answer."""

    retry_after_s = math.nan

    def on_message_begin(self) -> None:
        """Forget the last answer's."""
        super().on_message_begin()
        self.retry_after_s = math.nan

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools for each header."""
        if name.lower() == b"retry-after":
            self.retry_after_s = float(value)


Answered = Callable[[_Client, "asyncio.Future[tuple[int, bytes]]"], None]


async def storm(question: Storm) -> Outcomes:
    """Send everything at its moment, and wait for the answers.

    Raises:
        WrongAnswer: an answer of status 200 without the right number of vectors.
    """
    bodies = _Bodies(question.url, question.requests, question.max_length)
    planned = arrivals(question.per_s, question.seconds, len(bodies.sizes), question.seed)
    outcomes = Outcomes(
        at_s=[arrival.at_s for arrival in planned],
        latency_s=[math.nan] * len(planned),
        status=[LOST] * len(planned),
        texts=[bodies.sizes[arrival.request] for arrival in planned],
        retry_after_s=[math.nan] * len(planned),
    )
    loop = asyncio.get_running_loop()
    clients = _Clients(question.url)
    wrong: list[str] = []
    began_cpu, start = time.process_time(), loop.time()

    def answered(index: int, client: _Client, answer: asyncio.Future[tuple[int, bytes]]) -> None:
        outcomes.latency_s[index] = loop.time() - start - planned[index].at_s
        if answer.exception() is None:
            status, body = answer.result()
            outcomes.status[index], outcomes.retry_after_s[index] = status, client.retry_after_s
            if status == 200 and _SHAPE.count(body) != outcomes.texts[index]:
                wrong.append(f"wanted {outcomes.texts[index]} vectors, got {_SHAPE.count(body)}")

    try:
        for index, arrival in enumerate(planned):
            if arrival.at_s > (now := loop.time() - start):
                await asyncio.sleep(math.ceil(arrival.at_s / _TICK_S) * _TICK_S - now)
            outcomes.late_s = max(outcomes.late_s, loop.time() - start - arrival.at_s)
            clients.send(bodies.body(arrival.request), functools.partial(answered, index))
        outcomes.cpu_s = time.process_time() - began_cpu
        await clients.finish(question.patience_s)
    finally:
        outcomes.connections = clients.close()
    if wrong:
        raise WrongAnswer(wrong[0])
    return outcomes


async def capacity(question: Crowd) -> float:
    """The texts per second that a closed loop gets.

    Raises:
        WrongAnswer: anything but the right number of vectors.
    """
    bodies = _Bodies(question.url, question.requests, question.max_length)
    order = itertools.cycle(range(len(bodies.sizes)))
    loop = asyncio.get_running_loop()
    begin = loop.time() + question.warmup_s
    end = begin + question.seconds
    texts = 0.0

    async def client(connection: Connection) -> None:
        nonlocal texts
        while (sent := loop.time()) < end:
            index = next(order)
            status, body = await connection.send(bodies.body(index))
            if status != 200 or _SHAPE.count(body) != bodies.sizes[index]:
                raise WrongAnswer(f"{question.url}: wanted {bodies.sizes[index]} vectors, got {status}: {body[:200]!r}")
            # The part of its time that lies between.
            now = loop.time()
            texts += bodies.sizes[index] * max(0.0, min(now, end) - max(sent, begin)) / (now - sent)

    connections = [await Connection.open(question.url) for _ in range(question.clients)]
    try:
        await asyncio.gather(*(client(connection) for connection in connections))
    finally:
        for connection in connections:
            connection.close()
    return texts / question.seconds


class _Bodies:
    """Requests, ready to be sent, each time with another number before each of its texts."""

    def __init__(self, url: str, requests: Sequence[Sequence[str]], max_length: int) -> None:
        self.sizes = [len(texts) for texts in requests]
        numbered = ([f"{_NUMBER} {text}" for text in texts] for texts in requests)
        self._parts = [
            post_bytes(url, encoded(_SHAPE, texts, max_length, "")).split(_NUMBER.encode()) for texts in numbered
        ]
        self._numbers: Iterator[int] = itertools.count(time.time_ns() % 10**6 * 10)

    def body(self, index: int) -> bytes:
        """The request of that index."""
        return (b"%07d" % (next(self._numbers) % 10**7)).join(self._parts[index])


class _Clients:
    """As many connections as are in use at a time; the one that answered last is used next."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._loop = asyncio.get_running_loop()
        self._idle: list[_Client] = []
        self._opened: list[_Client] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Future[tuple[int, bytes]]] = set()

    def send(self, request: bytes, answered: Answered) -> None:
        """Send by a connection that is idle, or a new one."""
        while self._idle:
            client = self._idle.pop()
            if not client.closed:  # by the server, which does not wait for ever
                self._start(client, request, answered)
                return
        task = self._loop.create_task(self._open(request, answered))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def finish(self, patience_s: float) -> None:
        """Wait for all answers, but not longer."""
        end = self._loop.time() + patience_s
        while (self._opening or self._waiting) and (left := end - self._loop.time()) > 0:
            pending: set[asyncio.Future[Any]] = {*self._opening, *self._waiting}
            await asyncio.wait(pending, timeout=left)

    def close(self) -> int:
        """Close all; how many there were."""
        for client in self._opened:
            client.close()
        return len(self._opened)

    async def _open(self, request: bytes, answered: Answered) -> None:
        with contextlib.suppress(BenchmarkError):  # the request stays LOST
            client = await _Client.open(self._url)
            self._opened.append(client)
            self._start(client, request, answered)

    def _start(self, client: _Client, request: bytes, answered: Answered) -> None:
        def done(answer: asyncio.Future[tuple[int, bytes]]) -> None:
            self._waiting.discard(answer)
            answered(client, answer)
            self._idle.append(client)

        waiting = client.start(request)
        self._waiting.add(waiting)
        waiting.add_done_callback(done)


def main() -> None:
    """Answer questions until standard input ends."""

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        if "clients" in question:
            return {"texts_per_s": runner.run(capacity(Crowd(**question)))}
        return asdict(runner.run(storm(Storm(**question))))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        serve(answer)


if __name__ == "__main__":
    main()
