"""`python -m benchmarks.cache`: what the REST shim's cache gains with queries that repeat as Zipf's law says.

    one Triton  <-  a shim without a cache, and one for each size of cache
    cold:    the same queries to each, one text a request, several clients
    warm-up: many queries, in lists
    rounds:  new queries of the stream, the same to each shim, in an order that turns with the round

What Triton embedded, by its own count, is what the cache did not know. Exit codes: 0 measured, 1 something could not be
measured, 2 a wrong option.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

import httpx
import numpy as np
import uvloop

from benchmarks.errors import BenchmarkError, WrongAnswer
from benchmarks.figures import ratio
from benchmarks.http_client import Connection, post_bytes
from benchmarks.processes import free_ports, running, usage
from benchmarks.queries import Stream, sentences, shares
from benchmarks.repositories import exported
from benchmarks.shapes import SHAPES, encoded
from benchmarks.sides import service
from benchmarks.triton_statistics import fetch
from client.rest.cache import OVERHEAD_BYTES
from export.sources import DEFAULT_MODEL

_SHAPE = SHAPES["embedding"]
_MAX_LENGTH = 128
_LIST = 64  # texts in a request of the warm-up
_LISTS_AT_A_TIME = 4


@dataclass(frozen=True)
class Taken:
    """One stretch of the stream through one shim."""

    texts: int
    embedded: int  # by Triton
    elapsed_s: float
    latencies_ms: Sequence[float]

    @property
    def hits(self) -> float:
        """The share that Triton did not see."""
        return _share(self.texts - self.embedded, self.texts)


def _share(known: int, texts: int) -> float:
    # Not less than nothing: Triton also counts the text with which the supervisor looks after it each second.
    return max(0, known) / texts


@dataclass
class Shim:
    """A shim of a size of cache, and what was taken with it."""

    cache_mib: int
    url: str
    pid: int
    rounds: list[Taken] = field(default_factory=list)
    cold: list[Taken] = field(default_factory=list)
    began_rss: int = 0

    @property
    def rss(self) -> int:
        """Its resident memory."""
        return sum(each.rss for each in usage(self.pid).values())

    @property
    def texts_per_s(self) -> list[float]:
        """Of each round."""
        return [taken.texts / taken.elapsed_s for taken in self.rounds]


@contextlib.contextmanager
def shim(grpc_address: str, cache_mib: int) -> Iterator[Shim]:
    """Start a shim of our own before a Triton that runs."""
    [port] = free_ports(1)
    command = [sys.executable, "-m", "client.rest", "--port", str(port), "--triton-url", f"grpc://{grpc_address}"]
    command += ["--cache-bytes", f"{cache_mib}MiB"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EMBEDDING_")}

    def is_ready(_: str) -> bool:
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/health/ready", trust_env=False, timeout=10)
        except httpx.TransportError:
            return False
        return answer.status_code == httpx.codes.OK

    with running("the REST shim", command, is_ready, environment) as pid:
        yield Shim(cache_mib, f"http://127.0.0.1:{port}/embedding", pid)


async def send(url: str, requests: Sequence[Sequence[str]], clients: int) -> tuple[float, list[float]]:
    """Send each request once, by clients that each send the next one when they have their answer.

    Returns:
        elapsed seconds, and each request's milliseconds.
    """
    waiting = iter([(post_bytes(url, encoded(_SHAPE, texts, _MAX_LENGTH, "")), len(texts)) for texts in requests])
    latencies: list[float] = []

    async def run(connection: Connection) -> None:
        for request, count in waiting:
            began = time.perf_counter()
            status, body = await connection.send(request)
            latencies.append(1000 * (time.perf_counter() - began))
            if status != 200 or _SHAPE.count(body) != count:
                raise WrongAnswer(f"{url}: wanted status 200 and {count} vectors, got {status}: {body[:200]!r}")

    connections = [await Connection.open(url) for _ in range(clients)]
    try:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for connection in connections:
                group.create_task(run(connection))
        return time.perf_counter() - began, latencies
    finally:
        for connection in connections:
            connection.close()


def take(each: Shim, triton_url: str, requests: Sequence[Sequence[str]], clients: int) -> Taken:
    """Send a stretch through a shim, which has Triton for itself meanwhile."""
    before = fetch(triton_url)["bert"].inferences
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        elapsed_s, latencies = runner.run(send(each.url, requests, clients))
    embedded = fetch(triton_url)["bert"].inferences - before
    return Taken(sum(map(len, requests)), embedded, elapsed_s, latencies)


def measure(options: argparse.Namespace, progress: Callable[[str], None]) -> str:
    """Measure all, and describe it as Markdown."""
    texts = sentences()
    repository, manifest = exported(DEFAULT_MODEL, "auto")
    stream = Stream(texts, options.exponent)
    with contextlib.ExitStack() as stack:
        progress(f"starting Triton and {1 + len(options.mib)} shims")
        triton = stack.enter_context(service(repository, "--no-rest"))
        url = f"http://{triton.http_address}"
        shims = [stack.enter_context(shim(triton.grpc_address, mib)) for mib in (0, *options.mib)]
        for each in shims:
            take(each, url, [["first"]], 1)
            each.began_rss = each.rss
        cold = stream.take(options.queries)
        warm = stream.take(options.warm_up)
        for each in shims:
            each.cold = [take(each, url, [[text] for text in cold], options.clients)]
            progress(f"cold, {_name(each)}: {len(cold) / each.cold[0].elapsed_s:.0f} texts/s")
        twice = shims[-1].cold[0].embedded - len(set(cold))
        lists = [warm[start : start + _LIST] for start in range(0, len(warm), _LIST)]
        for each in shims[1:]:
            taken = take(each, url, lists, _LISTS_AT_A_TIME)
            progress(f"warm-up, {_name(each)}: {taken.hits:.1%} known")
        for turn in range(options.rounds):
            requests = [[text] for text in stream.take(options.queries)]
            start = turn % len(shims)
            for each in [*shims[start:], *shims[:start]]:
                each.rounds.append(take(each, url, requests, options.clients))
            told = ", ".join(f"{_name(each)} {each.texts_per_s[-1]:.0f}" for each in shims)
            progress(f"round {turn + 1}/{options.rounds}: {told} texts/s")
        return _page(options, shims, len(texts), manifest.hidden_size, twice)


def _page(options: argparse.Namespace, shims: Sequence[Shim], texts: int, hidden: int, twice: int) -> str:
    popular = np.cumsum(shares(texts, options.exponent))
    lines = [
        f"{texts:,} different sentences, s = {options.exponent}; {options.clients} clients, one text a request; cold: "
        f"{options.queries:,} queries; then {options.warm_up:,} to warm up, and {options.rounds} rounds of "
        f"{options.queries:,} new ones. The best: the most frequent texts that fit.",
        "",
        "| cache | texts that fit | known, cold | known, warm | the best | texts/s cold | texts/s warm | ÷ without "
        "| p50 | p95 | grown by |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    without = shims[0]
    for each in shims:
        fit = min(texts, each.cache_mib * 2**20 // (4 * hidden + 4 + OVERHEAD_BYTES))
        known = _share(
            sum(taken.texts - taken.embedded for taken in each.rounds), sum(taken.texts for taken in each.rounds)
        )
        latencies = np.concatenate([taken.latencies_ms for taken in each.rounds])
        p50, p95 = np.percentile(latencies, (50, 95))
        cold = each.cold[0]
        lines.append(
            f"| {_name(each)} | {fit:,} | {cold.hits:.1%} | {known:.1%} | {popular[fit - 1] if fit else 0:.1%} "
            f"| {cold.texts / cold.elapsed_s:.0f} | {median(each.texts_per_s):.0f} "
            f"| {ratio(each.texts_per_s, without.texts_per_s):.2f} | {p50:.1f} ms | {p95:.1f} ms "
            f"| {(each.rss - each.began_rss) / 2**20:.0f} MiB |"
        )
    lines += [
        "",
        f"Embedded more than once because asked for again while on the way (cold, largest cache): {twice} of "
        f"{options.queries:,} texts.",
    ]
    return "\n".join(lines) + "\n"


def _name(each: Shim) -> str:
    return f"{each.cache_mib} MiB" if each.cache_mib else "none"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and give the exit code."""
    options = _options(arguments)
    began = time.monotonic()

    def progress(line: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - began:6.1f} s] {line}\n")
        sys.stdout.flush()

    try:
        page = measure(options, progress)
    except BenchmarkError as error:
        sys.stderr.write(f"cache: {error}\n")
        return 1
    sys.stdout.write(f"\n{page}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cache",
        description="The REST shim with caches of several sizes and without, given queries that repeat.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--mib", type=int, nargs="+", default=[1, 4, 32], help="sizes of the caches")
    parser.add_argument("--exponent", type=float, default=1.0, help="s: how much more often the frequent ones come")
    parser.add_argument("--queries", type=int, default=1500, help="in the cold stretch and in a round")
    parser.add_argument("--warm-up", type=int, default=20_000, help="queries between the cold stretch and the rounds")
    parser.add_argument("--rounds", type=int, default=3, help="rounds")
    parser.add_argument("--clients", type=int, default=16, help="at a time")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
