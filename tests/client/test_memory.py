"""The bound on what all requests hold, around an application that takes its time."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from client import Overloaded
from client.rest.memory import Memory, held_by

KIB = 1024
OWN = 64 * KIB


class Application:
    """Reads a body, holds what X-Hold says, and waits until it is told to answer."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            size = len(await request.body())
            held_by(scope).add(int(request.headers.get("x-hold", 0)))
        except Overloaded as overloaded:
            await Response(str(overloaded), 429)(scope, receive, send)
            return
        self.waiting += 1
        await self.go.wait()
        await Response(str(size))(scope, receive, send)


async def scenario(sizes: list[int], holds: list[int]) -> tuple[list[int], int, int]:
    """Requests that come one after the other and stay; their statuses, what was held, and what is held at the end."""
    application = Application()
    memory = Memory(application, most_bytes=1000 * KIB)

    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {}
        await memory(scope, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(with_state), base_url="http://x") as http:
        asked = []
        for size, hold in zip(sizes, holds, strict=True):
            before = application.waiting
            asked.append(asyncio.create_task(http.post("/", content=b"x" * size, headers={"X-Hold": str(hold)})))
            while application.waiting == before and not asked[-1].done():
                await asyncio.sleep(0)
        held = memory.held_bytes
        application.go.set()
        answers = await asyncio.gather(*asked)
    return [answer.status_code for answer in answers], held, memory.held_bytes


@pytest.mark.parametrize(
    ("sizes", "holds", "statuses"),
    [
        ([500 * KIB] * 3, [0] * 3, [200, 200, 429]),
        ([600 * KIB, 600 * KIB, 300 * KIB], [0] * 3, [200, 429, 200]),
        # Small ones are never refused for what large ones hold.
        ([1064 * KIB, *[OWN] * 50, OWN + 1], [0] * 52, [200] + [200] * 50 + [429]),
        # Vectors count as bodies do.
        ([10] * 3, [500 * KIB] * 3, [200, 200, 429]),
        ([500 * KIB] * 3, [100 * KIB] * 3, [200, 429, 429]),
    ],
    ids=["bodies", "smaller-fits", "small", "vectors", "both"],
)
def test_what_is_held(sizes: list[int], holds: list[int], statuses: list[int]) -> None:
    found, held, left = asyncio.run(scenario(sizes, holds))
    assert found == statuses
    assert held <= 1000 * KIB
    assert left == 0


def test_exactly_what_is_beyond_each_ones_own_is_counted() -> None:
    _, held, _ = asyncio.run(scenario([100 * KIB, 10 * KIB], [0, 60 * KIB]))
    assert held == (100 - 64 + 10 + 60 - 64) * KIB


def test_who_hangs_up_holds_nothing_any_more() -> None:
    async def hang_up() -> int:
        memory = Memory(Application(), most_bytes=1000 * KIB)
        messages: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        messages.put_nowait({"type": "http.request", "body": b"x" * 900 * KIB, "more_body": True})
        scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "state": {}}

        async def send(message: object) -> None:
            """Nobody reads it."""

        working = asyncio.create_task(memory(scope, messages.get, send))
        while not memory.held_bytes:
            await asyncio.sleep(0)
        assert memory.held_bytes == (900 - 64) * KIB
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return memory.held_bytes

    assert asyncio.run(hang_up()) == 0
