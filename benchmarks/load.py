"""The load generator: a number of clients, each of which sends its next request as soon as it has its answer.

    python -m benchmarks.load      one question per line on standard input, see `Question`

It goes through a fixed list of requests in circles. Time is taken from the start of a request to the start of the same
place in the list, one or more circles later, with all clients busy before and after: so each side is measured with
exactly the same texts, without the slow beginning and the thin end. Each answer must have the right number of vectors.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import uvloop

from benchmarks.errors import BenchmarkError, WrongAnswer
from benchmarks.http_client import Connection, post_bytes
from benchmarks.shapes import SHAPES, encoded
from benchmarks.worker import serve
from client import AsyncEmbeddingClient, EmbeddingError

__all__ = ["Question", "Taken", "circulate"]

Send = Callable[[int], Awaitable[None]]  # the request at this place in the list


@dataclass(frozen=True)
class Question:
    """What to send, where, and for how long.

    Attributes:
        url: `http://HOST:PORT[/PATH]` or `grpc://HOST:PORT`.
        shape: a name of SHAPES, or "grpc".
        model: what an OpenAI request calls it.
        requests: the texts of each.
        check: answer with the vectors of the first request instead of measuring.
    """

    url: str
    shape: str
    model: str
    requests: Sequence[Sequence[str]]
    max_length: int
    concurrency: int = 1
    seconds: float = 1.0
    warmup_s: float = 0.3
    check: bool = False


@dataclass(frozen=True)
class Taken:
    """One measurement. `circles` times the whole list were answered in `elapsed_s`; `sent` counts the warm-up too."""

    elapsed_s: float
    circles: int
    latencies_s: Sequence[float]
    sent: int


async def circulate(
    senders: Sequence[Send],
    length: int,
    seconds: float,
    warmup_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Taken:
    """Send a list of `length` requests in circles, by as many clients as there are senders."""
    clients = len(senders)
    starts: list[float] = []
    latencies: list[float] = []
    began = clock()
    first = -1  # number of the request at which measuring starts
    end = math.inf  # and ends

    async def run(send: Send) -> None:
        nonlocal first, end
        while True:
            number = len(starts)
            if number >= end + clients:
                return
            now = clock()
            if first < 0 and number >= clients and number % clients == 0 and now - began >= warmup_s:
                first = number
            elif first >= 0 and end == math.inf:
                circles, rest = divmod(number - first, length)
                if circles >= 1 and rest == 0 and now - starts[first] >= seconds:
                    end = number
            starts.append(now)
            latencies.append(math.nan)
            await send(number % length)
            latencies[number] = clock() - now

    async with asyncio.TaskGroup() as group:
        for send in senders:
            group.create_task(run(send))
    last = int(end)
    # The mean over one request of each client: with batching servers several start in the same moment.
    elapsed = fmean(starts[last : last + clients]) - fmean(starts[first : first + clients])
    return Taken(elapsed, (last - first) // length, latencies[first:last], len(starts))


async def measure(question: Question) -> Taken:
    """Measure one server.

    Raises:
        BenchmarkError: it failed, or gave another number of vectors than texts.
    """
    return await (_measure_grpc if question.shape == "grpc" else _measure_http)(question)


async def vectors(question: Question) -> list[list[float]]:
    """The vectors of the first request."""
    texts = question.requests[0]
    if question.shape == "grpc":
        async with AsyncEmbeddingClient(question.url) as client:
            result: list[list[float]] = (await client.embed(texts, question.max_length)).tolist()
            return result
    shape = SHAPES[question.shape]
    connection = await Connection.open(question.url)
    try:
        status, body = await connection.send(
            post_bytes(question.url, encoded(shape, texts, question.max_length, question.model))
        )
    finally:
        connection.close()
    if status != 200:
        raise WrongAnswer(f"{question.url}: wanted status 200, got {status}: {body[:200]!r}")
    found = shape.vectors(json.loads(body))
    if len(found) != len(texts) or shape.count(body) != len(texts):
        raise WrongAnswer(
            f"{question.url}: wanted {len(texts)} vectors, got {len(found)} ({shape.count(body)} counted)"
        )
    return found


async def _measure_http(question: Question) -> Taken:
    shape = SHAPES[question.shape]
    sizes = [len(texts) for texts in question.requests]
    requests = [
        post_bytes(question.url, encoded(shape, texts, question.max_length, question.model))
        for texts in question.requests
    ]

    def sender(connection: Connection) -> Send:
        async def send(place: int) -> None:
            status, body = await connection.send(requests[place])
            if status != 200 or shape.count(body) != sizes[place]:
                raise WrongAnswer(
                    f"{question.url}: wanted status 200 and {sizes[place]} vectors, got status {status} and "
                    f"{shape.count(body)}: {body[:200]!r}"
                )

        return send

    connections = [await Connection.open(question.url) for _ in range(question.concurrency)]
    try:
        senders = [sender(connection) for connection in connections]
        return await circulate(senders, len(requests), question.seconds, question.warmup_s)
    finally:
        for connection in connections:
            connection.close()


async def _measure_grpc(question: Question) -> Taken:
    async with AsyncEmbeddingClient(question.url) as client:

        async def send(place: int) -> None:
            # The client checks the number of vectors.
            await client.embed(question.requests[place], question.max_length)

        return await circulate(
            [send] * question.concurrency, len(question.requests), question.seconds, question.warmup_s
        )


async def _answer(question: Question) -> dict[str, Any]:
    try:
        if question.check:
            return {"vectors": await vectors(question)}
        taken = await measure(question)
    except EmbeddingError as error:
        raise BenchmarkError(f"{question.url}: {error}") from error
    except BaseExceptionGroup as failures:
        # All clients fail alike when a server fails: the first failure is the answer.
        known, other = failures.split((BenchmarkError, EmbeddingError))
        if known is None or other is not None:
            raise
        raise BenchmarkError(str(_first(known))) from failures
    return {
        "elapsed_s": taken.elapsed_s,
        "circles": taken.circles,
        "latencies_s": list(taken.latencies_s),
        "sent": taken.sent,
    }


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def main() -> None:
    """Answer questions until standard input ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        serve(lambda question: runner.run(_answer(Question(**question))))


if __name__ == "__main__":
    main()
