"""The order of things: capacity and loads in rounds, then a long storm under watch, and calm again.

    each round, for each mix:  capacity  ->  0.8 times of it  ->  10 times  ->  capacity
    in the first round, too:   0.5, 1 and 2 times
    then, the first mix:       capacity  ->  0.5 and 0.8 times  ->  10 times, long, under watch  ->  0.5  ->  capacity
    then:                      single texts at 0.3 times, alone and beside giant requests

A machine that others use changes its speed within seconds: so what is compared is measured within one round, a round
whose two capacities differ is measured again, and the figures are medians over the rounds.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import psutil

from benchmarks import triton_statistics
from benchmarks.errors import BenchmarkError
from benchmarks.http_client import post_bytes
from benchmarks.overload.arrivals import MIXES, mean_size, requests
from benchmarks.overload.figures import Level, level, recovery_s
from benchmarks.overload.watching import Watching
from benchmarks.processes import usage
from benchmarks.shapes import SHAPES, encoded
from benchmarks.sides import Service
from benchmarks.texts import workload
from benchmarks.worker import Worker

__all__ = ["CALM", "STORM", "Effort", "Giants", "LongStorm", "Results", "Round", "measure"]

CALM, STORM = 0.8, 10.0
_OTHERS = (0.5, 1.0, 2.0)
_AFTER = 0.5
_BESIDE_GIANTS = 0.3
_CLIENTS = 32
_REQUESTS = 400  # different ones, each sent with another number before its texts
_MAX_LENGTH = 128
# After a storm the shim is strict for a while, and a closed loop would meet refusals.
_CALM_AFTER_S = 5.0
_STEADY = 1.15
_ATTEMPTS = 4  # for each round that is wanted
_STORMS = 2  # at most; the page tells if the last was not steady either


@dataclass(frozen=True)
class Effort:
    """How long everything takes."""

    mixes: Sequence[str] = tuple(MIXES)
    rounds: int = 3
    capacity_s: float = 4.0
    level_s: float = 20.0
    storm_s: float = 300.0
    giants: int = 3
    giant_texts: int = 10_000


@dataclass(frozen=True)
class Round:
    """What was measured within two minutes. Capacity in texts per second, before and after; levels by their times."""

    capacity: tuple[float, float]
    levels: Mapping[float, Level]
    disturbed: float  # processors that others used meanwhile

    @property
    def steady(self) -> bool:
        """Whether the machine was as fast before as after."""
        return _steady(self.capacity)

    @property
    def goodput(self) -> float:
        """At ten times the capacity, as a share of it."""
        return self.levels[STORM].goodput / (sum(self.capacity) / 2)

    @property
    def slowdown(self) -> float:
        """p95 of the accepted at ten times the capacity, over that at 0.8 times."""
        return self.levels[STORM].accepted_ms.p95 / self.levels[CALM].accepted_ms.p95


@dataclass(frozen=True)
class LongStorm:
    """A storm under watch, and what came before and after it."""

    mix: str
    capacity: tuple[float, float]
    before: Level
    calm: Level
    storm: Level
    after: Level
    recovery_s: float
    probes: int
    probe_failures: Sequence[str]
    slowest_probe_ms: Mapping[str, float]
    replaced: int  # processes
    memory_before: Mapping[str, int]  # resident bytes, by process
    memory: Mapping[str, int]  # the most meanwhile
    processors: Mapping[str, float]  # in use, by process
    disturbed: float

    @property
    def steady(self) -> bool:
        """Whether the machine was as fast before as after."""
        return _steady(self.capacity)

    @property
    def failed(self) -> bool:
        """Whether it showed what no speed of a machine excuses; measured once more, that would be forgotten."""
        return bool(self.probe_failures or self.replaced or self.storm.failed)

    @property
    def goodput(self) -> float:
        """As a share of the capacity."""
        return self.storm.goodput / (sum(self.capacity) / 2)

    @property
    def slowdown(self) -> float:
        """p95 of the accepted, over that at 0.8 times the capacity."""
        return self.storm.accepted_ms.p95 / self.calm.accepted_ms.p95


@dataclass(frozen=True)
class Giants:
    """Single texts, alone and beside giant requests; and what Triton embedded in all meanwhile, in texts per second."""

    requests: int
    texts: int
    alone: Level
    beside: Level
    capacity: float
    embedded_per_s: float


@dataclass(frozen=True)
class Results:
    """Everything; rounds by mix."""

    rounds: Mapping[str, Sequence[Round]]
    storm: LongStorm
    giants: Giants

    def goodput(self, mix: str) -> float:
        """Median of the rounds."""
        return median(each.goodput for each in self.rounds[mix])

    def slowdown(self, mix: str) -> float:
        """Median of the rounds."""
        return median(each.slowdown for each in self.rounds[mix])


def measure(service: Service, generator: Worker, effort: Effort, progress: Callable[[str], None]) -> Results:
    """Measure everything."""
    load = _Load(service, generator)
    rounds: dict[str, list[Round]] = {mix: [] for mix in effort.mixes}
    for mix in effort.mixes:
        for _ in range(_ATTEMPTS * effort.rounds):
            done = _round(load, mix, effort, () if rounds[mix] else _OTHERS)
            progress(
                f"{mix}: capacity {done.capacity[0]:.0f} and {done.capacity[1]:.0f} texts/s; at 10 times goodput "
                f"{done.goodput:.2f}, p95 {done.slowdown:.2f} times that at 0.8 times; others used "
                f"{done.disturbed:.1f} processors{'' if done.steady else '; the machine changed its speed: once more'}"
            )
            if done.steady:
                rounds[mix].append(done)
            if len(rounds[mix]) == effort.rounds:
                break
        if not rounds[mix]:
            raise BenchmarkError(f"{mix}: the machine changed its speed in every round: there is nothing to compare")
    for _ in range(_STORMS):
        storm = _long_storm(load, effort)
        progress(
            f"storm of {effort.storm_s:.0f} s: {storm.probes} probes, {len(storm.probe_failures)} failed"
            f"{'' if storm.steady else '; the machine changed its speed'}"
        )
        if storm.steady or storm.failed:
            break
    giants = _giants(load, effort)
    progress(f"giants: p95 of single texts {giants.alone.accepted_ms.p95:.0f} ms, {giants.beside.accepted_ms.p95:.0f}")
    return Results(rounds, storm, giants)


class _Load:
    """The generator and the service that it asks."""

    def __init__(self, service: Service, generator: Worker) -> None:
        self.service = service
        self.url = f"http://127.0.0.1:{service.rest_port}"
        self._generator = generator
        self._seed = 0
        self._texts = {name: [list(each.texts) for each in requests(mix, _REQUESTS)] for name, mix in MIXES.items()}

    def capacity(self, mix: str, seconds: float) -> float:
        """Texts per second in a closed loop."""
        time.sleep(_CALM_AFTER_S)
        answer = self._ask(mix, clients=_CLIENTS, seconds=seconds)
        return float(answer["texts_per_s"])

    def outcomes(self, mix: str, per_s: float, seconds: float) -> Mapping[str, Any]:
        """An open loop of so many requests per second."""
        self._seed += 1
        return self._ask(mix, per_s=per_s, seconds=seconds, seed=self._seed)

    def level(self, mix: str, capacity: float, times: float, seconds: float) -> Level:
        """An open loop at so many times the capacity."""
        per_s = times * capacity / mean_size(MIXES[mix])
        return level(times, per_s, seconds, self.outcomes(mix, per_s, seconds))

    def _ask(self, mix: str, **question: Any) -> dict[str, Any]:
        return self._generator.ask(
            url=f"{self.url}/embedding", requests=self._texts[mix], max_length=_MAX_LENGTH, **question
        )

    @contextlib.contextmanager
    def disturbed(self) -> Iterator[Callable[[], float]]:
        """Around a measurement: the processors that others used meanwhile."""
        own, busy, began = self._own_s(), _busy_s(), time.monotonic()

        def others() -> float:
            return max(0.0, (_busy_s() - busy) - (self._own_s() - own)) / (time.monotonic() - began)

        yield others

    def _own_s(self) -> float:
        pids = (self.service.pid, self._generator.pid)
        return sum(each.cpu_s for pid in pids for each in usage(pid).values())


def _steady(capacity: tuple[float, float]) -> bool:
    return max(capacity) <= _STEADY * min(capacity)


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "steal", 0.0))


def _round(load: _Load, mix: str, effort: Effort, others: Sequence[float]) -> Round:
    with load.disturbed() as disturbed:
        before = load.capacity(mix, effort.capacity_s)
        levels = {times: load.level(mix, before, times, effort.level_s) for times in sorted({*others, CALM, STORM})}
        after = load.capacity(mix, effort.capacity_s)
        return Round((before, after), levels, disturbed())


def _long_storm(load: _Load, effort: Effort) -> LongStorm:
    mix = effort.mixes[0]
    with load.disturbed() as disturbed:
        capacity = load.capacity(mix, effort.capacity_s)
        before = load.level(mix, capacity, _AFTER, effort.level_s)
        calm = load.level(mix, capacity, CALM, effort.level_s)
        used = usage(load.service.pid)
        memory = {name: each.rss for name, each in used.items()}
        with Watching(load.service.pid, load.url) as watching:
            storm = load.level(mix, capacity, STORM, effort.storm_s)
        now = usage(load.service.pid)
        per_s = _AFTER * capacity / mean_size(MIXES[mix])
        outcomes = load.outcomes(mix, per_s, effort.level_s)
        return LongStorm(
            mix=mix,
            before=before,
            calm=calm,
            storm=storm,
            after=level(_AFTER, per_s, effort.level_s, outcomes),
            recovery_s=recovery_s(outcomes, before.accepted_ms.p95),
            probes=watching.asked,
            probe_failures=watching.failures,
            slowest_probe_ms=watching.slowest_ms,
            replaced=watching.replaced,
            memory_before={**memory, "all": sum(memory.values())},
            memory=watching.memory,
            processors={name: (now[name].cpu_s - used[name].cpu_s) / effort.storm_s for name in used if name in now},
            capacity=(capacity, load.capacity(mix, effort.capacity_s)),
            disturbed=disturbed(),
        )


def _giants(load: _Load, effort: Effort) -> Giants:
    mix = "queries"
    capacity = load.capacity(mix, effort.capacity_s)
    alone = load.level(mix, capacity, _BESIDE_GIANTS, effort.level_s)
    body = encoded(SHAPES["embedding"], workload("mixed", effort.giant_texts), _MAX_LENGTH, "")
    request = post_bytes(f"{load.url}/embedding", body)
    triton = f"http://{load.service.http_address}"
    with contextlib.ExitStack() as stack:
        for _ in range(effort.giants):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", urlsplit(load.url).port)))
            connection.sendall(request)
        time.sleep(1)
        before, began = triton_statistics.fetch(triton), time.monotonic()
        beside = load.level(mix, capacity, _BESIDE_GIANTS, effort.level_s)
        steps = triton_statistics.difference(triton_statistics.fetch(triton), before)
        per_s = steps["bert"].inferences / (time.monotonic() - began)
    # They have hung up now, which ends their work.
    return Giants(effort.giants, effort.giant_texts, alone, beside, capacity, per_s)
