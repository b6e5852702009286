"""The overload benchmark's own parts: arrivals, the generator at a small server, figures, targets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from benchmarks.errors import WrongAnswer
from benchmarks.overload.arrivals import MIXES, arrivals, mean_size, requests
from benchmarks.overload.figures import Level, Times, level, recovery_s
from benchmarks.overload.generator import LOST, Crowd, Storm, capacity, storm
from benchmarks.overload.placement import Placement, on, placement
from benchmarks.overload.report import markdown
from benchmarks.overload.runner import Giants, LongStorm, Results, Round
from benchmarks.overload.targets import targets


def test_a_mix_is_kept() -> None:
    found = Counter(len(each.texts) for each in requests(MIXES["mixed"], 400))
    assert found == {1: 300, 8: 80, 32: 20}
    assert mean_size(MIXES["mixed"]) == pytest.approx(sum(size * count for size, count in found.items()) / 400)


def test_arrivals_are_a_poisson_process() -> None:
    planned = arrivals(100, 50, choices=7)
    gaps = np.diff([each.at_s for each in planned])
    assert len(planned) == pytest.approx(5000, rel=0.05)
    # Exponential: the mean and the deviation are the same, and so is what lies beyond both.
    assert gaps.mean() == pytest.approx(0.01, rel=0.05)
    assert gaps.std() == pytest.approx(0.01, rel=0.1)
    assert (gaps > 0.02).mean() == pytest.approx(math.exp(-2), rel=0.1)
    assert {each.request for each in planned} == set(range(7))
    assert planned == arrivals(100, 50, choices=7)
    assert planned != arrivals(100, 50, choices=7, seed=1)


Answer = Callable[[int, list[str]], tuple[int, str, float] | None]  # number of the request, texts: status, Retry-After


@contextlib.asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[str, list[list[str]]]]:
    """A server that answers as it is told, after so many seconds; None closes the connection."""
    asked: list[list[str]] = []
    connections: set[asyncio.Task[None]] = set()

    def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.create_task(serve(reader, writer)))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
                texts = json.loads(await reader.readexactly(length))["texts"]
                asked.append(texts)
                told = answer(len(asked) - 1, texts)
                if told is None:
                    break
                status, retry_after, seconds = told
                await asyncio.sleep(seconds)
                body = json.dumps({"embeddings": [[0.5, 1.0]] * len(texts)} if status == 200 else {}).encode()
                extra = f"Retry-After: {retry_after}\r\n" if retry_after else ""
                writer.write(f"HTTP/1.1 {status} X\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/embedding", asked
    finally:
        server.close()
        await asyncio.gather(*connections)


def test_the_generator_does_not_wait_for_answers() -> None:
    """An open loop: what is slow does not slow it down, and every text is another one."""

    async def scenario() -> None:
        async with serving(lambda number, texts: (200, "", 0.5)) as (url, asked):
            outcomes = await storm(Storm(url, [["one"], ["two", "three"]], per_s=100, seconds=1))
        assert len(asked) == len(outcomes.status) > 60
        assert set(outcomes.status) == {200}
        assert outcomes.connections > 30
        assert min(outcomes.latency_s) >= 0.5
        assert sorted({text[8:] for texts in asked for text in texts}) == ["one", "three", "two"]
        assert len({texts[0][:7] for texts in asked}) == len(asked)

    asyncio.run(scenario())


def test_refusals_and_lost_answers_are_told_apart() -> None:
    def answer(number: int, texts: list[str]) -> tuple[int, str, float] | None:
        return [(200, "", 0.0), (429, "7", 0.0), (429, "", 0.0), (503, "3", 0.0), None][number % 5]

    async def scenario() -> Level:
        async with serving(answer) as (url, _):
            outcomes = await storm(Storm(url, [["one"]], per_s=200, seconds=1))
        return level(10.0, 200, 1.0, dataclasses.asdict(outcomes))

    found = asyncio.run(scenario())
    fifth = (found.accepted + found.refused + sum(found.failed.values())) // 5
    assert found.accepted == pytest.approx(fifth, abs=1)
    assert found.refused == pytest.approx(fifth, abs=1)
    assert set(found.failed) == {LOST, 429, 503}
    assert found.retry_after_s == 7


def test_an_answer_without_a_vector_is_no_answer() -> None:
    def one_too_few(number: int, texts: list[str]) -> tuple[int, str, float]:
        texts.pop()
        return 200, "", 0.0

    async def scenario() -> None:
        async with serving(one_too_few) as (url, _):
            await storm(Storm(url, [["one", "two"]], per_s=50, seconds=0.5))

    with pytest.raises(WrongAnswer, match="wanted 2 vectors, got 1"):
        asyncio.run(scenario())


def test_capacity_is_what_a_crowd_gets() -> None:
    async def scenario() -> float:
        async with serving(lambda number, texts: (200, "", 0.05)) as (url, _):
            return await capacity(Crowd(url, [["one", "two"]], clients=10, seconds=1.0, warmup_s=0.1))

    # 10 clients, 2 texts each, 20 times a second; a loaded machine is slower.
    assert 200 < asyncio.run(scenario()) <= 410


def test_a_refusal_is_no_capacity() -> None:
    async def scenario() -> None:
        async with serving(lambda number, texts: (429, "1", 0.0)) as (url, _):
            await capacity(Crowd(url, [["one"]], clients=2, seconds=0.5))

    with pytest.raises(WrongAnswer, match="wanted 1 vectors, got 429"):
        asyncio.run(scenario())


def outcomes(**changes: object) -> dict[str, object]:
    base: dict[str, object] = {
        "at_s": [0.0, 1.0, 2.0, 9.9],
        "latency_s": [0.1, 0.2, 0.001, 0.3],
        "status": [200, 200, 429, 200],
        "texts": [1, 8, 1, 1],
        "retry_after_s": [math.nan, math.nan, 3.0, math.nan],
        "cpu_s": 1.0,
        "late_s": 0.002,
    }
    return {**base, **changes}


def test_figures_of_a_level() -> None:
    found = level(2.0, 0.4, 10.0, outcomes())
    assert (found.accepted, found.refused, found.failed) == (3, 1, {})
    assert found.goodput == pytest.approx(8 / 9)  # the first came before a second had passed, the last after the end
    assert found.share == {1: pytest.approx(2 / 3), 8: 1.0}
    assert found.accepted_ms.most == pytest.approx(300)
    assert found.single_ms.p50 == pytest.approx(200)
    assert found.refused_ms.p99 == pytest.approx(1)
    assert found.generator == 0.1


def test_recovery() -> None:
    at = [float(second) + 0.5 for second in range(10)]
    usual = {"at_s": at, "latency_s": [0.05] * 10, "status": [200] * 10}
    assert recovery_s(usual, 100) == 0
    assert recovery_s({**usual, "latency_s": [0.2] * 3 + [0.05] * 7}, 100) == 3
    assert recovery_s({**usual, "status": [200, 200, 200, 200, 429] + [200] * 5}, 100) == 5
    assert math.isnan(recovery_s({**usual, "latency_s": [0.2] * 10}, 100))
    assert recovery_s({**usual, "latency_s": [0.05] * 5 + [0.2] + [0.05] * 4}, 100) == 0, "one slow window"
    assert math.isnan(recovery_s({**usual, "latency_s": [0.05] * 2 + [0.2] * 8}, 100)), "a relapse"


def results(**changes: object) -> Results:
    times = Times(10, 100, 150, 200)
    calm = Level(0.8, 10, 80, 800, 0, {}, 80.0, times, times, Times.of(np.array([])), math.nan, {1: 1.0}, 0.01, 2)
    high = dataclasses.replace(
        calm, times=10, refused=9000, goodput=95.0, accepted_ms=Times(100, 250, 300, 400), refused_ms=times
    )
    storm_of = LongStorm(
        mix="queries",
        capacity=(100.0, 100.0),
        before=calm,
        calm=calm,
        storm=dataclasses.replace(high, refused_ms=Times(1, 5, 50, 400)),
        after=calm,
        recovery_s=1.0,
        probes=600,
        probe_failures=(),
        slowest_probe_ms={"/health/live": 5.0, "/health/ready": 500.0},
        replaced=0,
        memory_before={"bert": 100, "all": 1000},
        memory={"bert": 100, "all": 1050},
        processors={"bert": 1.5},
        disturbed=0.0,
    )
    rounds = {
        "queries": [
            Round((100.0, 100.0), {0.8: calm, 10.0: dataclasses.replace(high, refused_ms=Times(1, 5, 50, 400))}, 0.1)
        ]
    }
    storm_of = dataclasses.replace(storm_of, **changes)  # type: ignore[arg-type]
    return Results(rounds, storm_of, Giants(3, 10_000, calm, calm, 100.0, 90.0))


def test_all_targets_can_be_met_and_each_can_be_missed() -> None:
    assert all(each.met for each in targets(results()))

    def missed(**changes: object) -> list[str]:
        return [each.figure for each in targets(results(**changes)) if not each.met]

    assert [name.partition(":")[2] for name in missed(recovery_s=math.nan)] == [" as usual again after"]
    assert len(missed(probe_failures=["/health/live: status 503"])) == 1
    assert len(missed(replaced=1)) == 1
    assert len(missed(capacity=(100.0, 120.0))) == 1
    assert len(missed(memory={"all": 2000})) == 1
    storm_of = results().storm.storm
    assert len(missed(storm=dataclasses.replace(storm_of, failed={0: 1}))) == 1
    assert len(missed(storm=dataclasses.replace(storm_of, accepted_ms=Times(10, 301, 400, 500)))) == 1
    assert len(missed(storm=dataclasses.replace(storm_of, refused_ms=Times(1, 50, 150, 400)))) == 1
    base = results()
    [round_of] = base.rounds["queries"]
    for change in ({"goodput": 80.0}, {"accepted_ms": Times(1, 301, 400, 500)}, {"refused_ms": Times(1, 50, 150, 400)}):
        high = dataclasses.replace(round_of.levels[10.0], **change)  # type: ignore[arg-type]
        changed = dataclasses.replace(round_of, levels={**round_of.levels, 10.0: high})
        assert sum(not each.met for each in targets(dataclasses.replace(base, rounds={"queries": [changed]}))) == 1


def test_a_round_tells_whether_the_machine_was_steady() -> None:
    [steady] = results().rounds["queries"]
    assert steady.steady
    assert not dataclasses.replace(steady, capacity=(100.0, 120.0)).steady
    assert not dataclasses.replace(steady, capacity=(120.0, 100.0)).steady


def test_a_storm_with_a_failure_is_not_measured_once_more() -> None:
    good = results().storm
    assert not good.failed
    assert dataclasses.replace(good, probe_failures=["/health/live: status 503"]).failed
    assert dataclasses.replace(good, replaced=1).failed
    assert dataclasses.replace(good, storm=dataclasses.replace(good.storm, failed={LOST: 1})).failed


def test_the_generator_has_a_processor_of_its_own_where_there_are_two() -> None:
    apart = placement({0, 1, 5}, share=False)
    assert apart == Placement(frozenset({0, 1}), frozenset({5}))
    assert not apart.shared
    for shared in (placement({3}, share=False), placement({3, 4}, share=True)):
        assert shared.service == shared.generator
        assert shared.shared


@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) == 1, reason="wants two processors: on one, everything is in its place"
)
def test_what_is_started_in_a_place_stays_there() -> None:
    everywhere = os.sched_getaffinity(0)
    place = frozenset([max(everywhere)])
    tell = [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"]
    grandchild = [sys.executable, "-c", f"import subprocess; subprocess.run({tell!r}, check=True)"]
    with on(place):
        told = subprocess.run(grandchild, capture_output=True, text=True, check=True).stdout
    assert {int(number) for number in told.split()} == place
    assert os.sched_getaffinity(0) == everywhere
    with pytest.raises(ZeroDivisionError), on(place):
        raise ZeroDivisionError
    assert os.sched_getaffinity(0) == everywhere


def test_the_page_has_everything() -> None:
    apart = placement({0, 1, 5}, share=False)
    page = markdown(results(probe_failures=["/health/live: status 503"]), apart, "scripts/overload")
    assert "processors: 2 for the service, 1 for the load generator" in page
    assert "processors: 2, shared by" in markdown(results(), placement({0, 1}, share=True), "scripts/overload")
    changed = dataclasses.replace(results(), storm=dataclasses.replace(results().storm, capacity=(100.0, 120.0)))
    assert "not comparable" in markdown(changed, apart, "scripts/overload")
    assert "not comparable" not in page
    assert "| storm of 10 s: probes that failed, of 600 | ≤ 0 | **1** | **no** |" in page
    assert "3 requests of 10000 texts" in page
    assert "| bert | 1.50 | 0 | 0 |" in page
    assert page.count("\n## ") == 4
