"""Who is let in, and how long those wait: a server of known speed, in virtual time, under bursts and storms."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from client import Embeddings, Limits, Overloaded
from client._pieces import run
from client.rest.admission import Admission, Patience
from tests.support import virtual_time

PER_S = 100.0


async def embed(texts: Sequence[bytes]) -> Embeddings:
    return Embeddings(np.zeros((len(texts), 1), np.float32), np.zeros(len(texts), np.int32))


class Server:
    """Embeds one text after the other, in order; each takes 10 ms on average, as real texts do very unequal ones."""

    def __init__(self, per_s: float = PER_S, seed: int = 0) -> None:
        self.per_s = per_s
        self._random = random.Random(seed)
        self._free_at = 0.0

    async def __call__(self, texts: Sequence[bytes]) -> Embeddings:
        work = sum(self._random.expovariate(self.per_s) for _ in texts)
        self._free_at = max(self._free_at, virtual_time.clock()) + work
        await asyncio.sleep(self._free_at - virtual_time.clock())
        return await embed(texts)


@dataclass(frozen=True)
class Outcome:
    at_s: float
    texts: int
    took_s: float
    refused: Overloaded | None


def admission(patience: Patience | None = None) -> Admission:
    return Admission(Limits(), patience or Patience(), virtual_time.clock, random.Random(0).random)


async def ask(room: Admission, server: Server, texts: int) -> Outcome:
    began = virtual_time.clock()
    try:
        await run([b"a"] * texts, server, room)
    except Overloaded as refused:
        return Outcome(began, texts, virtual_time.clock() - began, refused)
    return Outcome(began, texts, virtual_time.clock() - began, None)


async def storm(
    room: Admission, server: Server, times: float, seconds: float, sizes: Sequence[int] = (1,)
) -> list[Outcome]:
    """So many times as many texts as the server can embed, in a Poisson process."""
    randomly = random.Random(1)
    end = virtual_time.clock() + seconds
    asked = []
    while virtual_time.clock() < end:
        await asyncio.sleep(randomly.expovariate(times * PER_S * len(sizes) / sum(sizes)))
        asked.append(asyncio.create_task(ask(room, server, randomly.choice(sizes))))
    return list(await asyncio.gather(*asked))


def p95(outcomes: Sequence[Outcome]) -> float:
    return float(np.percentile([each.took_s for each in outcomes if each.refused is None], 95))


def goodput(outcomes: Sequence[Outcome], seconds: float) -> float:
    return sum(each.texts for each in outcomes if each.refused is None) / seconds


async def closed_loop(room: Admission, clients: Sequence[int], seconds: float, server: Server) -> list[Outcome]:
    """Each client sends requests of its size, the next one when the last was answered."""
    outcomes: list[Outcome] = []
    end = virtual_time.clock() + seconds

    async def client(texts: int) -> None:
        while virtual_time.clock() < end:
            outcomes.append(await ask(room, server, texts))

    await asyncio.gather(*(client(texts) for texts in clients))
    return outcomes


@pytest.mark.parametrize("speed", [1.0, 0.5, 0.1])
@pytest.mark.parametrize(
    "clients",
    [[1] * 16, [1] * 64, [32] * 4, [32] * 16, [10_000] * 2, [1, 1, 1, 2, 5, 12] * 10, [1] * 16 + [32] * 4 + [2000]],
    ids=["16x1", "64x1", "4x32", "16x32", "2x10000", "60-mixed", "all"],
)
def test_normal_use_is_never_refused(clients: list[int], speed: float) -> None:
    outcomes = virtual_time.run(_closed(clients, speed))
    assert len(outcomes) >= len(clients)
    assert not any(each.refused for each in outcomes)


async def _closed(clients: list[int], speed: float) -> list[Outcome]:
    return await closed_loop(admission(), clients, 10 / speed, Server(PER_S * speed))


@pytest.mark.parametrize("sizes", [(1,), (1, 1, 1, 8), (1,) * 15 + (8,) * 4 + (32,)], ids=["1", "1-8", "1-8-32"])
def test_ten_times_too_much(sizes: tuple[int, ...]) -> None:
    async def scenario(times: float, seconds: float) -> tuple[list[Outcome], Admission]:
        room = admission()
        return await storm(room, Server(), times, seconds, sizes), room

    usual, _ = virtual_time.run(scenario(0.8, 60))
    assert not any(each.refused for each in usual)
    outcomes, room = virtual_time.run(scenario(10, 20))
    refused = [each for each in outcomes if each.refused]
    assert room.refused == len(refused) > 0.85 * len(outcomes)
    assert p95(outcomes) < 3 * p95(usual)
    assert goodput(outcomes, 20) > 0.95 * PER_S
    assert max(each.took_s for each in refused) <= 0.1
    # No size is shut out by another one.
    for size in set(sizes):
        answered = [each.refused is None for each in outcomes if each.texts == size]
        assert 0.05 < np.mean(answered) < 0.2, size


def test_normal_again_after_a_storm() -> None:
    async def scenario() -> tuple[list[Outcome], list[Outcome]]:
        room, server = admission(), Server()
        during = await storm(room, server, 10, 5)
        return during, await storm(room, server, 0.5, 20)

    during, after = virtual_time.run(scenario())
    assert any(each.refused for each in during)
    assert not any(each.refused for each in after)
    assert p95([each for each in after if each.at_s > 10]) < 0.2


def test_retry_after_grows_with_the_storm_and_is_spread() -> None:
    async def scenario(times: float) -> list[float]:
        outcomes = await storm(admission(), Server(), times, 10)
        return [each.refused.retry_after_s or 0 for each in outcomes if each.refused and each.at_s > 5]

    little, much = (virtual_time.run(scenario(times)) for times in (1.5, 10))
    assert 1 <= min(little) < max(little) < 10
    # 9 of 10 come back, in all 45 s of work; we do not ask for more than half a minute.
    assert 25 < max(much) <= 31
    assert 10 < np.mean(much) < 25


def test_clients_that_come_back_when_told_are_served() -> None:
    """Three times too much at once, then patience: everybody is answered in the time that the work needs."""

    async def scenario() -> tuple[float, int]:
        room, server = admission(), Server()
        randomly, refusals = random.Random(2), 0

        async def client() -> None:
            nonlocal refusals
            await asyncio.sleep(randomly.random() * 10)
            while refused := (await ask(room, server, 1)).refused:
                refusals += 1
                await asyncio.sleep(refused.retry_after_s or 0)

        await asyncio.gather(*(client() for _ in range(3000)))
        return virtual_time.clock(), refusals

    seconds, refusals = virtual_time.run(scenario())
    assert seconds < 60  # the work alone needs 30
    assert refusals < 3 * 3000


def test_a_request_that_would_share_with_too_many_is_refused() -> None:
    async def scenario() -> list[str]:
        room, server = admission(Patience(burst_requests=0)), Server()
        await ask(room, server, 1)
        asked = []
        for _ in range(7):
            asked.append(asyncio.create_task(ask(room, server, 5000)))
            await asyncio.sleep(1)
        # A smaller one waits for no more than its own size of each.
        asked.append(asyncio.create_task(ask(room, server, 100)))
        asked.append(asyncio.create_task(ask(room, server, 1)))
        return ["refused" if each.refused else "served" for each in await asyncio.gather(*asked)]

    assert virtual_time.run(scenario()) == ["served"] * 5 + ["refused"] * 3 + ["served"]


def test_before_the_speed_is_known_a_burst_is_let_in_and_no_more() -> None:
    async def scenario() -> list[Outcome]:
        room, server = admission(Patience(burst_requests=50)), Server()
        return list(await asyncio.gather(*(ask(room, server, 1) for _ in range(500))))

    outcomes = virtual_time.run(scenario())
    # 16 go to the server at once.
    assert sum(each.refused is None for each in outcomes) == 50 + 16


def test_who_hangs_up_makes_room() -> None:
    async def scenario(hang_up: bool) -> bool:
        room, server = admission(Patience(burst_requests=20)), Server()
        await ask(room, server, 1)
        waiting = [asyncio.create_task(ask(room, server, 1)) for _ in range(90)]
        await asyncio.sleep(0.01)
        if hang_up:
            for each in waiting[10:]:
                each.cancel()
            await asyncio.sleep(0)
        return (await ask(room, server, 1)).refused is None

    assert virtual_time.run(scenario(hang_up=True))
    assert not virtual_time.run(scenario(hang_up=False))


def test_a_refusal_before_the_body_is_that_of_the_body() -> None:
    """Both rules see the same: what the head is let in with, a single text is let in with."""

    async def scenario() -> None:
        room, server = admission(), Server()
        background = asyncio.create_task(storm(room, server, 5, 10))
        for _ in range(1000):
            await asyncio.sleep(0.01)
            early = room.refusal()
            try:
                room.admit(1)
                assert early is None
            except Overloaded:
                assert early is not None
        await background

    virtual_time.run(scenario())


def test_the_first_refusal_ends_the_patience_for_bursts() -> None:
    async def scenario() -> tuple[int, int]:
        room, server = admission(Patience(burst_requests=60, calm_after_s=3)), Server()
        await asyncio.gather(*(ask(room, server, 1) for _ in range(20)))

        async def burst(count: int) -> int:
            outcomes = await asyncio.gather(*(ask(room, server, 1) for _ in range(count)))
            return sum(each.refused is not None for each in outcomes)

        within = await burst(80)
        beyond = await burst(200)
        soon = await burst(80)
        await asyncio.sleep(3.1)
        assert not room.overloaded
        assert await burst(80) == within == 0
        assert beyond > 0
        return beyond, soon

    beyond, soon = virtual_time.run(scenario())
    assert soon > 0
    assert beyond > soon


def test_who_came_last_is_refused_with_the_first_that_is() -> None:
    """A storm looks like a burst at first; but who has waited for longer than a moment is served."""

    async def scenario() -> tuple[list[Outcome], list[Outcome]]:
        room, server = admission(Patience(burst_requests=64)), Server()
        await asyncio.gather(*(ask(room, server, 1) for _ in range(50)))
        early = [asyncio.create_task(ask(room, server, 1)) for _ in range(90)]
        await asyncio.sleep(0.2)
        late = [asyncio.create_task(ask(room, server, 1)) for _ in range(40)]
        return list(await asyncio.gather(*early)), list(await asyncio.gather(*late))

    early, late = virtual_time.run(scenario())
    assert not any(each.refused for each in early)
    refused = [each for each in late if each.refused]
    assert len(refused) == 40
    assert max(each.took_s for each in refused) == 0
