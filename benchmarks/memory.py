"""`scripts/bench memory`: whether memory stays flat under requests of ever other shapes, and what ONNX Runtime's memory
settings change.

For each setting this service is started anew. First comes the largest batch there is, then requests of random sizes
and lengths, by several clients, to both ensembles and to the REST shim:

    random shapes  ->  resident memory of each process, every few seconds  ->  growth: the end against the middle
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.errors import BenchmarkError
from benchmarks.processes import usage
from benchmarks.repositories import bert_base, exported, with_parameters
from benchmarks.sides import service
from benchmarks.texts import workload
from client import AsyncEmbeddingClient, EmbeddingError, Limits
from export.sources import DEFAULT_MODEL

__all__ = ["Taken", "drive", "growth", "main"]

# Parameters of bert/config.pbtxt, on top of those that it has.
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "as committed": {},
    "no memory patterns": {"enable_mem_pattern": "0"},
    "no arena": {"enable_mem_arena": "0"},
    "arena that shrinks": {"memory.enable_memory_arena_shrinkage": "cpu:0"},
}
_LARGEST = 64, 512  # texts of a Triton batch, tokens of a text
_SIZES = (1, 1, 1, 1, 2, 3, 5, 8, 13, 32, 64)
_LENGTHS = (8, 16, 33, 64, 100, 128, 200, 384, 512)
# Of a random request: two seconds of work at most on two slow processors, or six clients would wait for half a minute.
_MOST_TOKENS = 4096
_CLIENTS = 6
_TIMEOUT_S = 300.0
_SAMPLES = 40


@dataclass(frozen=True)
class Taken:
    """`rss`: bytes of each process, by the time at which they were read. `peak_rss`: at the end."""

    texts: int
    elapsed_s: float
    rss: Sequence[Mapping[str, int]]
    peak_rss: Mapping[str, int]


async def drive(grpc_url: str, rest_url: str, pid: int, seconds: float, seed: int = 0) -> Taken:
    """Load a service with requests of random shapes and watch the memory of its processes.

    `grpc_url` is `grpc://HOST:PORT`, `rest_url` is `http://HOST:PORT`.

    Raises:
        BenchmarkError: a request failed.
    """
    limits = Limits(piece=64, least_piece=64, least=64 * _CLIENTS, most=64 * _CLIENTS)
    shapes = [(size, length) for size in _SIZES for length in _LENGTHS if size * length <= _MOST_TOKENS]
    texts = [" ".join(workload("full", 640)[start : start + 4]) for start in range(0, 640, 4)]  # 512 tokens and more
    done = 0
    samples: list[Mapping[str, int]] = []
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(each)
            for each in (
                AsyncEmbeddingClient(grpc_url, timeout_s=_TIMEOUT_S, limits=limits, ensemble="embedding"),
                AsyncEmbeddingClient(grpc_url, timeout_s=_TIMEOUT_S, limits=limits, ensemble="embedding_fused"),
                AsyncEmbeddingClient(f"rest+{rest_url}", timeout_s=_TIMEOUT_S, limits=limits),
            )
        ]
        try:
            size, length = _LARGEST
            for client in clients[:2]:
                await client.embed(texts[:size], length)
            began = time.monotonic()

            async def ask(number: int) -> None:
                nonlocal done
                chance = random.Random(f"{seed} {number}")
                while time.monotonic() - began < seconds:
                    size, length = chance.choice(shapes)
                    await clients[number % len(clients)].embed(chance.sample(texts, size), length)
                    done += size

            async def watch() -> None:
                while time.monotonic() - began < seconds:
                    samples.append({name: each.rss for name, each in usage(pid).items()})
                    await asyncio.sleep(seconds / _SAMPLES)

            async with asyncio.TaskGroup() as group:
                for number in range(_CLIENTS):
                    group.create_task(ask(number))
                group.create_task(watch())
        except* EmbeddingError as failures:
            raise BenchmarkError(f"{grpc_url}: {failures.exceptions[0]}") from failures
    return Taken(done, time.monotonic() - began, samples, {name: each.peak_rss for name, each in usage(pid).items()})


def growth(rss: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """By process: the memory in the last quarter of the samples over that in the second quarter."""
    quarter = len(rss) // 4
    if not quarter:
        raise ValueError(f"wanted at least 4 samples, got {len(rss)}")
    middle, end = rss[quarter : 2 * quarter], rss[-quarter:]
    return {name: median(each[name] for each in end) / median(each[name] for each in middle) for name in end[-1]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/bench memory", description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of load for each setting (default: %(default)s)")
    parser.add_argument(
        "--bert-base", action="store_true", help="BERT-base (random weights) instead of the default model"
    )
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="default: all")
    options = parser.parse_args(arguments)
    lines = ["| bert | texts/s | MB of bert: second quarter | last quarter | most | growth of all processes |"]
    lines.append("|" + " --- |" * 6)
    try:
        repository, manifest = exported(str(bert_base()) if options.bert_base else DEFAULT_MODEL, "auto")
        for name in options.settings:
            with with_parameters(repository, "bert", SETTINGS[name]) as varied, service(varied) as ours:
                urls = f"grpc://{ours.grpc_address}", f"http://127.0.0.1:{ours.rest_port}"
                taken = asyncio.run(drive(*urls, ours.pid, options.seconds))
            lines.append(_row(name, taken))
            sys.stdout.write(f"{lines[-1]}\n")
            sys.stdout.flush()
    except BenchmarkError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    sys.stdout.write("\n".join([f"\n{manifest.model}, {options.seconds:g} s for each setting\n", *lines, ""]))
    return 0


def _row(name: str, taken: Taken) -> str:
    quarter = len(taken.rss) // 4
    middle, end = (
        median(each["bert"] for each in part) / 1e6 for part in (taken.rss[quarter : 2 * quarter], taken.rss[-quarter:])
    )
    grown = ", ".join(f"{process} {ratio:.2f}" for process, ratio in growth(taken.rss).items())
    rate = taken.texts / taken.elapsed_s
    return f"| {name} | {rate:.1f} | {middle:.0f} | {end:.0f} | {taken.peak_rss['bert'] / 1e6:.0f} | {grown} |"


if __name__ == "__main__":
    sys.exit(main())
