"""Splitting, order, fairness and cancellation, with a stand-in for the sending only."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from client import Embeddings, InvalidInput, Limits, Unavailable
from client._pieces import Room, run

LIMITS = Limits(piece=4, call=8, total=16)


def answer(texts: Sequence[bytes]) -> Embeddings:
    """The vector of a text is the number that it spells."""
    numbers = np.array([int(text) for text in texts], np.int32)
    return Embeddings(numbers[:, None].astype(np.float32), numbers)


def numbered(count: int) -> list[bytes]:
    return [str(index).encode() for index in range(count)]


class Sender:
    """Sends one piece in one turn of the loop or more; counts what is in flight."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.most_in_flight = 0
        self.sent: list[bytes] = []

    async def __call__(self, texts: Sequence[bytes]) -> Embeddings:
        self.in_flight += len(texts)
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.sent.extend(texts)
        try:
            # The later ones of a call come back first.
            await asyncio.sleep(0.002 / (1 + int(texts[0])))
            return answer(texts)
        finally:
            self.in_flight -= len(texts)


def free(room: Room) -> int:
    return room._free


@pytest.mark.parametrize("count", [1, 4, 5, 100])
def test_order_is_kept(count: int) -> None:
    result = asyncio.run(run(numbered(count), Sender(), LIMITS, Room(LIMITS.total)))
    assert result.tokens.tolist() == list(range(count))
    assert result.vectors.shape == (count, 1)


def test_in_flight_is_bounded() -> None:
    async def scenario() -> tuple[Sender, Room]:
        sender, room = Sender(), Room(LIMITS.total)
        await run(numbered(100), sender, LIMITS, room)
        assert sender.most_in_flight <= LIMITS.call
        await asyncio.gather(*(run(numbered(30), sender, LIMITS, room) for _ in range(10)))
        return sender, room

    sender, room = asyncio.run(scenario())
    assert LIMITS.call < sender.most_in_flight <= LIMITS.total
    assert free(room) == LIMITS.total


def test_a_big_call_takes_turns_with_small_ones() -> None:
    async def scenario() -> list[str]:
        room, ended = Room(LIMITS.total), []

        async def call(name: str, count: int) -> None:
            await run(numbered(count), Sender(), LIMITS, room)
            ended.append(name)

        # Three big calls fill the room; a small one comes last.
        big = [asyncio.create_task(call("big", 400)) for _ in range(3)]
        await asyncio.sleep(0.005)
        await call("small", 1)
        await asyncio.gather(*big)
        return ended

    assert asyncio.run(scenario())[0] == "small"


def test_the_first_error_cancels_the_rest_and_frees_the_room() -> None:
    async def scenario() -> tuple[int, int, int]:
        sender, room = Sender(), Room(LIMITS.total)

        async def failing(texts: Sequence[bytes]) -> Embeddings:
            if texts[0] == b"20":
                raise Unavailable("away")
            return await sender(texts)

        with pytest.raises(Unavailable, match="away"):
            await run(numbered(400), failing, LIMITS, room)
        await asyncio.sleep(0)
        return sender.in_flight, free(room), len(sender.sent)

    in_flight, room, sent = asyncio.run(scenario())
    assert (in_flight, room) == (0, LIMITS.total)
    assert sent < 100


def test_a_bug_is_not_hidden_among_errors() -> None:
    async def buggy(texts: Sequence[bytes]) -> Embeddings:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        asyncio.run(run(numbered(9), buggy, LIMITS, Room(LIMITS.total)))


def test_errors_of_one_call_do_not_touch_another() -> None:
    async def scenario() -> None:
        room = Room(LIMITS.total)

        async def failing(texts: Sequence[bytes]) -> Embeddings:
            raise InvalidInput("bad")

        bad = [run(numbered(9), failing, LIMITS, room) for _ in range(5)]
        good = [run(numbered(50), Sender(), LIMITS, room) for _ in range(3)]
        results = await asyncio.gather(*bad, *good, return_exceptions=True)
        assert [type(result) for result in results] == [InvalidInput] * 5 + [Embeddings] * 3

    asyncio.run(scenario())


@pytest.mark.parametrize("moment", [0, 1, 2, 5, 10])
def test_cancelling_a_call_frees_the_room(moment: int) -> None:
    async def scenario() -> tuple[int, int]:
        sender, room = Sender(), Room(LIMITS.total)
        calls = [asyncio.create_task(run(numbered(100), sender, LIMITS, room)) for _ in range(5)]
        calls += [asyncio.create_task(run(numbered(1), sender, LIMITS, room)) for _ in range(5)]
        for _ in range(moment):
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(0)
        return sender.in_flight, free(room)

    assert asyncio.run(scenario()) == (0, LIMITS.total)


def test_room_is_given_in_order_and_none_is_lost_by_a_cancelled_waiter() -> None:
    async def scenario() -> list[int]:
        room, got = Room(4), []
        await room.take(4)

        async def waiter(texts: int) -> None:
            await room.take(texts)
            got.append(texts)
            room.give_back(texts)

        tasks = [asyncio.create_task(waiter(texts)) for texts in (3, 4, 1, 2)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        room.give_back(4)
        tasks[0].cancel()  # in the same moment as it is granted
        await asyncio.gather(*tasks, return_exceptions=True)
        assert free(room) == 4
        return got

    assert asyncio.run(scenario()) == [1, 2]


def test_limits_must_nest() -> None:
    with pytest.raises(ValueError, match="wanted 1 <= piece <= call <= total"):
        Limits(piece=64, call=32)
