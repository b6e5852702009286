"""Two or more running shims, one request each in turn: what a change, or a setting, costs a single text.

    python -m benchmarks.paired before=http://127.0.0.1:8091 after=http://127.0.0.1:8092 [keys=http://…,KEY]

A round is one request to every side, in an order that changes; a difference is of one round, so that what slows the
machine down for a while is in both. Processor time is the whole process's, its threads included.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psutil

from benchmarks.errors import BenchmarkError
from benchmarks.http_client import Connection, post_bytes

__all__ = ["Side", "compare", "summary"]

_BODY = b'{"texts": ["The cat sits outside"], "max_length": 128}'


@dataclass
class Side:
    """One shim. `took_s` is one latency a round."""

    name: str
    url: str
    key: str = ""
    took_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0

    @property
    def request(self) -> bytes:
        """The bytes of the request."""
        plain = post_bytes(f"{self.url}/embedding", _BODY)
        return plain.replace(b"\r\n", f"\r\nAuthorization: Bearer {self.key}\r\n".encode(), 1) if self.key else plain

    def process(self) -> psutil.Process:
        """Who listens there, on this machine."""
        port = urlsplit(self.url).port
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if listens and connection.pid:
                return psutil.Process(connection.pid)
        raise BenchmarkError(f"{self.name}: wanted a process of this machine that listens on port {port}, found none")


async def compare(sides: Sequence[Side], rounds: int, warm_up: int) -> None:
    """Fill the sides in.

    Raises:
        BenchmarkError: a side cannot be reached, or answers another status than 200.
    """
    processes = [side.process() for side in sides]
    connections = [await Connection.open(side.url) for side in sides]
    try:
        before = [0.0] * len(sides)
        for number in range(-warm_up, rounds):
            if number == 0:
                before = [_cpu_s(process) for process in processes]
            for side, connection in random.sample(list(zip(sides, connections, strict=True)), len(sides)):
                took_s = await _once(side, connection)
                if number >= 0:
                    side.took_s.append(took_s)
        for side, process, start in zip(sides, processes, before, strict=True):
            side.cpu_s = (_cpu_s(process) - start) / rounds
    finally:
        for connection in connections:
            connection.close()
        await asyncio.sleep(0)  # which the loop needs to close them


async def _once(side: Side, connection: Connection) -> float:
    request = side.request
    began = time.perf_counter()
    status, body = await connection.send(request)
    took_s = time.perf_counter() - began
    if status != 200:
        raise BenchmarkError(f"{side.name}: wanted 200, got {status}: {body[:200]!r}")
    return took_s


def summary(sides: Sequence[Side]) -> str:
    """A line per side; differences are to the first one, the median of the rounds' and its 95 % interval."""
    first = sides[0]
    lines = [f"{'side':12} {'median ms':>10} {'difference µs':>24} {'processor µs':>13} {'difference µs':>14}"]
    for side in sides:
        differences = sorted(1e6 * (mine - its) for mine, its in zip(side.took_s, first.took_s, strict=True))
        low, high = _median_interval(differences)
        middle = statistics.median(differences)
        shown = "" if side is first else f"{middle:+.0f} ({low:+.0f} to {high:+.0f})"
        cpu = "" if side is first else f"{1e6 * (side.cpu_s - first.cpu_s):+.0f}"
        median_ms = 1e3 * statistics.median(side.took_s)
        lines.append(f"{side.name:12} {median_ms:>10.3f} {shown:>24} {1e6 * side.cpu_s:>13.0f} {cpu:>14}")
    return "\n".join(lines)


def _median_interval(ordered: Sequence[float]) -> tuple[float, float]:
    """By order statistics, without any assumption on the distribution."""
    half = 0.98 * len(ordered) ** 0.5
    middle = len(ordered) / 2
    return ordered[max(0, int(middle - half))], ordered[min(len(ordered) - 1, int(middle + half))]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> int:
    """Compare, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paired", description=__doc__)
    parser.add_argument("sides", nargs="+", metavar="NAME=URL[,KEY]")
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--warm-up", type=int, default=300)
    arguments = parser.parse_args()
    sides = []
    for argument in arguments.sides:
        name, _, rest = argument.partition("=")
        url, _, key = rest.partition(",")
        sides.append(Side(name, url, key))
    try:
        asyncio.run(compare(sides, arguments.rounds, arguments.warm_up))
    except BenchmarkError as error:
        sys.stderr.write(f"python -m benchmarks.paired: {error}\n")
        return 1
    sys.stdout.write(summary(sides) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
