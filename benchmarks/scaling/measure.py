"""What the model needs beside the benchmark, measured once on the real service: docs/scaling/measured.json.

- how many tokens real texts have;
- how long a start takes;
- what requests take that come whether earlier ones are answered or not (an open loop), at half and at 0.8 of what the
  service does at most: the model is held against it, with the very same requests at the same moments.

    scripts/scaling measure        some two minutes on a machine that does nothing else

Each loop notes how much of the processors others took meanwhile, and is done again where that was too much: of all
tries the quietest counts.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
import uvloop
from tokenizers import Tokenizer

from benchmarks.errors import BenchmarkError, WrongAnswer
from benchmarks.http_client import Connection, post_bytes
from benchmarks.repositories import exported
from benchmarks.scaling.traffic import Arrivals, Pool, consecutive, draw
from benchmarks.shapes import SHAPES, encoded
from benchmarks.sides import service
from benchmarks.texts import WORKLOADS, digest, workload
from benchmarks.worker import Worker
from export.sources import DEFAULT_MODEL
from server.processors import available_processors

__all__ = ["OPEN_LOOPS", "REQUESTS", "SECONDS", "measure", "open_loop", "quietest"]

# Texts per request -> share of the requests.
OPEN_LOOPS: dict[str, Mapping[int, float]] = {"single texts": {1: 1.0}, "lists": {1: 0.6, 8: 0.3, 16: 0.1}}
LOADS = (0.5, 0.8)
SECONDS = 20.0
REQUESTS = 512  # different ones, of 256 different texts
_TEXTS = 256
_MAX_LENGTH = 128
_STARTS = 3
_CLOSED_S = 4.0
# Clients of the closed loops: one tells the time of a single text, many tell what the service does at most.
CLIENTS = (1, 16, 64)
# A server closes a connection that is idle for longer; uvicorn after 5 s.
_IDLE_S = 2.0
_SHAPE = SHAPES["embedding"]
# A share of the processors that others may take meanwhile, and how often a loop is tried.
_OTHERS = 0.03
_TRIES = 3

_T = TypeVar("_T")


def measure(progress: Callable[[str], None]) -> dict[str, Any]:
    """Measure everything.

    Raises:
        BenchmarkError: the service did not start, or failed to answer.
    """
    repository, manifest = exported(DEFAULT_MODEL, "auto")
    counts = _token_counts(repository)
    texts = workload("mixed", _TEXTS)
    starts_s = []
    for number in range(_STARTS):
        began = time.monotonic()
        with service(repository) as running:
            starts_s.append(time.monotonic() - began)
            progress(f"start {number + 1} of {_STARTS}: {starts_s[-1]:.1f} s")
            if number == _STARTS - 1:
                url = f"http://127.0.0.1:{running.rest_port}/embedding"
                closed = _closed_loops(url, texts, progress)
                most_per_s = closed[str(max(CLIENTS))]
                loops = [
                    _measured_loop(url, texts, counts["mixed"], name, load, load * most_per_s, progress)
                    for name in OPEN_LOOPS
                    for load in LOADS
                ]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processors": available_processors(),
        "model": manifest.model,
        "digest": manifest.digest,
        "texts_digest": digest(texts),
        "token_counts": counts,
        "starts_s": starts_s,
        "closed_texts_per_s": closed,
        "open_loops": loops,
    }


def _token_counts(repository: Path) -> dict[str, list[int]]:
    tokenizer = Tokenizer.from_file(str(repository / "tokenizer" / "1" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_MAX_LENGTH)
    return {name: [len(each.ids) for each in tokenizer.encode_batch(workload(name, _TEXTS))] for name in WORKLOADS}


def _closed_loops(url: str, texts: Sequence[str], progress: Callable[[str], None]) -> dict[str, float]:
    """Texts per second with so many clients, one text each at a time."""
    found = {}
    with Worker("benchmarks.load") as load:
        for clients in CLIENTS:

            def loop(clients: int = clients) -> float:
                answer = load.ask(
                    url=url,
                    shape="embedding",
                    model="default",
                    requests=[[text] for text in texts],
                    max_length=_MAX_LENGTH,
                    concurrency=clients,
                    seconds=_CLOSED_S,
                )
                return float(answer["circles"] * len(texts) / answer["elapsed_s"])

            found[str(clients)], others = quietest(loop)
            progress(f"closed loop, {clients} clients: {found[str(clients)]:.0f} texts/s, others took {others:.1%}")
    return found


def _measured_loop(
    url: str,
    texts: Sequence[str],
    counts: Sequence[int],
    name: str,
    load: float,
    texts_per_s: float,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    requests = consecutive(counts, OPEN_LOOPS[name], REQUESTS)
    arrivals = draw(requests, texts_per_s, 0.0, SECONDS, np.random.default_rng(0))
    latencies, others = quietest(lambda: open_loop(url, texts, requests, arrivals))
    p50, p95, p99 = (1000 * float(each) for each in np.percentile(latencies, (50, 95, 99)))
    progress(
        f"{name}, {load:g} of the most, {texts_per_s:.0f} texts/s: {p50:.0f} / {p95:.0f} / {p99:.0f} ms, "
        f"others took {others:.1%}"
    )
    return {
        "name": name,
        "load": load,
        "texts_per_s": texts_per_s,
        "requests": len(latencies),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "others": others,
    }


def quietest(loop: Callable[[], _T]) -> tuple[_T, float]:
    """The try during which others took least of the machine's processors, and that share."""
    tries: list[tuple[float, _T]] = []
    while len(tries) < _TRIES and not any(others <= _OTHERS for others, _ in tries):
        all_s, others_s = _processor_seconds()
        found = loop()
        all_then_s, others_then_s = _processor_seconds()
        tries.append((max(0.0, others_then_s - others_s) / (all_then_s - all_s), found))
    others, found = min(tries, key=lambda each: each[0])
    return found, others


def _processor_seconds() -> tuple[float, float]:
    """Those of the machine so far, idle ones too, and what other processes took of them than this and its children."""
    times = psutil.cpu_times()
    this = psutil.Process()
    ours = [each.cpu_times() for each in (this, *this.children(recursive=True))]
    busy_s = sum(times) - times.idle - times.iowait
    return float(sum(times)), float(busy_s - sum(each.user + each.system for each in ours))


def open_loop(url: str, texts: Sequence[str], requests: Pool, arrivals: Arrivals) -> list[float]:
    """Send each request at its moment; gives the seconds from that moment on until the answer.

    Raises:
        BenchmarkError: an answer was wrong, or did not come.
    """
    bodies = _bodies(url, texts, requests)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_send(url, bodies, requests, arrivals))


def _bodies(url: str, texts: Sequence[str], requests: Pool) -> list[bytes]:
    starts = np.cumsum(requests.texts) - requests.texts
    chosen = [
        [texts[place % len(texts)] for place in range(start, start + size)]
        for start, size in zip(starts.tolist(), requests.texts.tolist(), strict=True)
    ]
    return [post_bytes(url, encoded(_SHAPE, each, _MAX_LENGTH, "default")) for each in chosen]


async def _send(url: str, bodies: Sequence[bytes], requests: Pool, arrivals: Arrivals) -> list[float]:
    opened: list[Connection] = []
    free: list[tuple[float, Connection]] = []  # since when
    latencies: list[float] = []
    began = asyncio.get_running_loop().time() + 0.1

    async def one(at: float, index: int) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(began + at - loop.time())
        since, connection = free.pop() if free else (-math.inf, None)
        if connection is not None and loop.time() - since > _IDLE_S:
            connection.close()
            connection = None
        if connection is None:
            connection = await Connection.open(url)
            opened.append(connection)
        status, body = await connection.send(bodies[index])
        latencies.append(loop.time() - began - at)
        if status != 200 or _SHAPE.count(body) != requests.texts[index]:
            raise WrongAnswer(f"{url}: wanted status 200 and {requests.texts[index]} vectors, got status {status}")
        free.append((loop.time(), connection))

    try:
        async with asyncio.TaskGroup() as group:
            for at, index in zip(arrivals.at, arrivals.index, strict=True):
                group.create_task(one(at, index))
    except BaseExceptionGroup as failures:
        known, other = failures.split(BenchmarkError)
        if known is None or other is not None:
            raise
        raise BenchmarkError(str(known.exceptions[0])) from failures
    finally:
        for connection in opened:
            connection.close()
        await asyncio.sleep(0)  # what was closed is gone after the loop's next turn
    return latencies
