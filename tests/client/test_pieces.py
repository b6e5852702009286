"""Splitting, order, fairness and cancellation, with a stand-in for the sending only; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from client import Embeddings, InvalidInput, Limits, Unavailable
from client._pace import Pace
from client._pieces import Room, run
from tests.support import virtual_time

# Fixed room: what a server's speed makes of it is tested below.
LIMITS = Limits(piece=4, least_piece=4, least=16, most=16)


def answer(texts: Sequence[bytes]) -> Embeddings:
    """The vector of a text is the number that it spells."""
    numbers = np.array([int(text) for text in texts], np.int32)
    return Embeddings(numbers[:, None].astype(np.float32), numbers)


def numbered(count: int) -> list[bytes]:
    return [str(index).encode() for index in range(count)]


class Sender:
    """Sends pieces, the later ones of a call a little faster; counts what is in flight."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.most_in_flight = 0
        self.sent: list[bytes] = []

    async def __call__(self, texts: Sequence[bytes]) -> Embeddings:
        self.in_flight += len(texts)
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.sent.extend(texts)
        try:
            await asyncio.sleep(0.002 / (1 + int(texts[0])))
            return answer(texts)
        finally:
            self.in_flight -= len(texts)


class Server:
    """Embeds in order of arrival, so many texts per second, at most 64 at a time, as Triton does."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._queue: asyncio.Queue[tuple[Sequence[bytes], asyncio.Future[None]]] = asyncio.Queue()
        self._working = asyncio.create_task(self._work())

    async def __call__(self, texts: Sequence[bytes]) -> Embeddings:
        done = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((texts, done))
        await done
        return answer(texts)

    async def _work(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty() and sum(len(texts) for texts, _ in batch) < 64:
                batch.append(self._queue.get_nowait())
            await asyncio.sleep(sum(len(texts) for texts, _ in batch) / self._per_s)
            for _, done in batch:
                if not done.done():
                    done.set_result(None)


def is_empty(room: Room) -> bool:
    """Whether all room was given back, and nobody waits."""
    lines = [room.first, room.later]
    return (room.small, room.waiting, room.calls) == (0, 0, {}) and all(
        (line.waiting, line.on_the_way, len(line.turns)) == (0, 0, 0) for line in lines
    )


@pytest.mark.parametrize("count", [1, 4, 5, 100])
def test_order_is_kept(count: int) -> None:
    result = asyncio.run(run(numbered(count), Sender(), Room(LIMITS)))
    assert result.tokens.tolist() == list(range(count))
    assert result.vectors.shape == (count, 1)


def test_in_flight_is_bounded() -> None:
    async def scenario() -> tuple[int, int]:
        sender, room = Sender(), Room(LIMITS)
        await run(numbered(100), sender, room)
        alone = sender.most_in_flight
        await asyncio.gather(*(run(numbered(30), sender, room) for _ in range(10)))
        assert is_empty(room)
        return alone, sender.most_in_flight

    assert asyncio.run(scenario()) == (16, 16)


def test_a_piece_larger_than_the_room_goes_alone() -> None:
    async def scenario() -> None:
        sender, room = Sender(), Room(Limits(piece=4, least_piece=4, least=4, most=4))
        await asyncio.gather(*(run(numbered(count), sender, room) for count in (4, 4, 9, 3)))
        assert sender.most_in_flight == 4

    asyncio.run(scenario())


def test_the_room_follows_the_speed_of_the_server() -> None:
    async def size_with(per_s: float) -> int:
        room = Room(Limits(least=32, most=1024, at_server_s=0.25), Pace(virtual_time.clock))
        server = Server(per_s)
        await asyncio.gather(*(run(numbered(16), server, room) for _ in range(600)))
        return room.size

    assert virtual_time.run(size_with(10)) == 32
    assert virtual_time.run(size_with(1000)) == pytest.approx(250, rel=0.1)
    assert virtual_time.run(size_with(100_000)) == 1024


def test_a_single_text_does_not_wait_for_big_calls() -> None:
    """It waits for what is at the server, some tenths of a second, and not for 30,000 texts."""

    async def scenario() -> tuple[list[float], int]:
        room, server = Room(Limits(), Pace(virtual_time.clock)), Server(per_s=100)
        big = [asyncio.create_task(run(numbered(10_000), server, room)) for _ in range(3)]
        waits = []
        while virtual_time.clock() < 60:
            await asyncio.sleep(0.1)
            before = virtual_time.clock()
            await run(numbered(1), server, room)
            waits.append(virtual_time.clock() - before)
        left = sum(room.calls.values())
        for call in big:
            call.cancel()
        await asyncio.gather(*big, return_exceptions=True)
        assert is_empty(room)
        return waits, left

    waits, left = virtual_time.run(scenario())
    # At most three quarters of 0.4 s are theirs. (At the start it still waited for their first pieces.)
    assert max(waits[1:]) < 0.5
    # And the big calls lose only what the small ones take.
    assert 30_000 - left > 0.9 * (60 * 100 - len(waits))


def test_small_calls_do_not_stop_a_big_one() -> None:
    async def scenario() -> float:
        room, server = Room(Limits(), Pace(virtual_time.clock)), Server(per_s=100)

        async def always() -> None:
            while True:
                await run(numbered(1), server, room)

        small = [asyncio.create_task(always()) for _ in range(300)]
        await asyncio.sleep(1)
        before = virtual_time.clock()
        await run(numbered(1000), server, room)
        for each in small:
            each.cancel()
        return virtual_time.clock() - before

    # Alone it would take 10 s; it gets about half of the server, as far as pieces of 16 are even.
    assert virtual_time.run(scenario()) < 30


def test_big_calls_take_turns() -> None:
    async def scenario() -> list[float]:
        room, server = Room(Limits(), Pace(virtual_time.clock)), Server(per_s=100)

        async def took(count: int) -> float:
            await run(numbered(count), server, room)
            return virtual_time.clock()

        return list(await asyncio.gather(took(5000), took(200), took(5000)))

    first, short, second = virtual_time.run(scenario())
    # A third of the server each: 6 s, and not behind the first one's 50 s.
    assert short < 10
    assert first == pytest.approx(second, rel=0.05)


def test_the_first_error_cancels_the_rest_and_frees_the_room() -> None:
    async def scenario() -> tuple[int, int]:
        sender, room = Sender(), Room(LIMITS)

        async def failing(texts: Sequence[bytes]) -> Embeddings:
            if texts[0] == b"20":
                raise Unavailable("away")
            return await sender(texts)

        with pytest.raises(Unavailable, match="away"):
            await run(numbered(400), failing, room)
        await asyncio.sleep(0)
        assert is_empty(room)
        return sender.in_flight, len(sender.sent)

    in_flight, sent = asyncio.run(scenario())
    assert in_flight == 0
    assert sent < 100


def test_a_bug_is_not_hidden_among_errors() -> None:
    async def buggy(texts: Sequence[bytes]) -> Embeddings:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        asyncio.run(run(numbered(9), buggy, Room(LIMITS)))


def test_errors_of_one_call_do_not_touch_another() -> None:
    async def scenario() -> None:
        room = Room(LIMITS)

        async def failing(texts: Sequence[bytes]) -> Embeddings:
            raise InvalidInput("bad")

        bad = [run(numbered(9), failing, room) for _ in range(5)]
        good = [run(numbered(50), Sender(), room) for _ in range(3)]
        results = await asyncio.gather(*bad, *good, return_exceptions=True)
        assert [type(result) for result in results] == [InvalidInput] * 5 + [Embeddings] * 3
        assert is_empty(room)

    asyncio.run(scenario())


@pytest.mark.parametrize("moment", [0, 1, 2, 5, 10])
def test_cancelling_a_call_frees_the_room(moment: int) -> None:
    async def scenario() -> int:
        sender, room = Sender(), Room(LIMITS)
        calls = [asyncio.create_task(run(numbered(100), sender, room)) for _ in range(5)]
        calls += [asyncio.create_task(run(numbered(1), sender, room)) for _ in range(5)]
        for _ in range(moment):
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(0)
        assert is_empty(room)
        return sender.in_flight

    assert asyncio.run(scenario()) == 0


def test_room_is_given_in_order_and_none_is_lost_by_a_cancelled_waiter() -> None:
    async def scenario() -> list[int]:
        room, got = Room(Limits(piece=4, least_piece=4, least=4, most=4)), []
        await room.take(4, room.first)

        async def waiter(texts: int) -> None:
            await room.take(texts, room.first)
            got.append(texts)
            room.give_back(texts, room.first, embedded=True)

        tasks = [asyncio.create_task(waiter(texts)) for texts in (3, 4, 1, 2)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        room.give_back(4, room.first, embedded=True)
        tasks[0].cancel()  # in the same moment as it is granted
        await asyncio.gather(*tasks, return_exceptions=True)
        assert is_empty(room)
        return got

    assert asyncio.run(scenario()) == [1, 2]


def test_a_large_piece_is_not_overtaken_for_ever() -> None:
    """Small pieces of the other line must not take each bit of room as it comes free."""

    async def scenario() -> list[str]:
        room, went = Room(Limits(piece=8, least=8, most=8)), []

        async def take(name: str, texts: int, late: bool) -> None:
            line = room.later if late else room.first
            await room.take(texts, line)
            went.append(name)
            await asyncio.sleep(1)
            room.give_back(texts, line, embedded=True)

        tasks = [asyncio.create_task(take("small", 2, late=True)) for _ in range(8)]
        await asyncio.sleep(0.5)
        tasks += [asyncio.create_task(take("large", 8, late=False))]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(take("small", 2, late=True)) for _ in range(8)]
        await asyncio.gather(*tasks)
        return went

    assert virtual_time.run(scenario()).index("large") == 3


@pytest.mark.parametrize(
    "values",
    [{"piece": 4}, {"least_piece": 64}, {"least": 4}, {"most": 15}, {"at_server_s": 0}, {"least_piece": 0}],
    ids=str,
)
def test_limits_must_nest(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="wanted 1 <= least_piece <= piece"):
        Limits(**values)
