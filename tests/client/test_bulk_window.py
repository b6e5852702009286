"""How many requests are in flight: up with answers, down with refusals. The server is a stand-in; it only counts."""

from __future__ import annotations

import asyncio

import pytest

from client import Overloaded
from client.bulk.adaptive import Window


class Server:
    """Takes so many requests at a time, and refuses more."""

    def __init__(self, takes: int) -> None:
        self.takes = takes
        self.now = 0
        self.most = 0

    async def __call__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.now > self.takes:
                await asyncio.sleep(0.0005)
                raise Overloaded("full")
            await asyncio.sleep(0.001)
        finally:
            self.now -= 1


async def requests(window: Window, server: Server, count: int, workers: int) -> None:
    left = count

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            try:
                await window.run(server)
            except Overloaded:
                left += 1
                await asyncio.sleep(0.001)

    await asyncio.gather(*(worker() for _ in range(workers)))


def test_it_grows_to_the_most_that_is_allowed() -> None:
    window, server = Window(8), Server(100)
    assert window.size == 2
    asyncio.run(requests(window, server, 300, 16))
    assert (window.size, server.most, window.refused) == (8, 8, 0)


def test_it_settles_around_what_the_server_takes() -> None:
    window, server = Window(64), Server(10)
    asyncio.run(requests(window, server, 2000, 64))
    assert 4 <= window.size <= 11
    assert window.refused < 400


def test_a_burst_of_refusals_counts_once() -> None:
    async def scenario() -> int:
        window = Window(64)  # begins with 16
        await asyncio.gather(*(window.run(Server(0)) for _ in range(16)), return_exceptions=True)
        return window.size

    assert asyncio.run(scenario()) == 8


def test_it_never_stops() -> None:
    async def scenario() -> int:
        window = Window(4)
        for _ in range(20):
            with pytest.raises(Overloaded):
                await window.run(Server(0))
        return window.size

    assert asyncio.run(scenario()) == 1


def test_other_errors_and_cancellation_give_the_place_back() -> None:
    async def scenario() -> None:
        window = Window(1)

        async def broken() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await window.run(broken)
        for moment in range(4):
            task = asyncio.create_task(window.run(lambda: asyncio.sleep(10)))
            waiting = asyncio.create_task(window.run(lambda: asyncio.sleep(10)))
            for _ in range(moment):
                await asyncio.sleep(0)
            task.cancel()
            waiting.cancel()
            await asyncio.gather(task, waiting, return_exceptions=True)
        await asyncio.wait_for(window.run(Server(1)), 1)

    asyncio.run(scenario())
