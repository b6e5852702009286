"""SIGTERM under load: what was accepted is answered, and the end comes in bounded time."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np
import psutil
import pytest

from tests.faults.load import MAX_LENGTH, Known
from tests.support.service import last_lines, serving

pytestmark = pytest.mark.triton

# What is in flight takes seconds, Triton's own end 3 s; all of it longer on a busy machine.
_BOUND_S = 60.0
_CLIENTS = 16


@dataclass(frozen=True)
class Fate:
    began_s: float
    outcome: str


async def closed_loop(session: aiohttp.ClientSession, url: str, known: Known, start: int, fates: list[Fate]) -> None:
    """One client on one kept-alive connection, which asks again as soon as it has its answer, until it is refused."""
    place = start
    while True:
        places = [(place + offset) % len(known.texts) for offset in range(2)]
        place += 2
        began = time.monotonic()
        body = {"texts": [known.texts[each] for each in places], "max_length": MAX_LENGTH}
        try:
            async with session.post(f"{url}/embedding", json=body) as response:
                vectors = np.array((await response.json()).get("embeddings", []), np.float32)
            right = response.status == 200 and known.model_of(places, vectors) == 0
            fates.append(Fate(began, "ok" if right else f"status {response.status}"))
        except aiohttp.ClientConnectorError:
            fates.append(Fate(began, "refused"))
            return
        except aiohttp.ClientError as error:
            fates.append(Fate(began, type(error).__name__))
            return


async def giant(session: aiohttp.ClientSession, url: str, known: Known) -> str:
    """A request that is in flight for seconds."""
    texts = list(known.texts) * 3
    async with session.post(f"{url}/embedding", json={"texts": texts, "max_length": MAX_LENGTH}) as response:
        vectors = np.array((await response.json())["embeddings"], np.float32)
        right = known.model_of(list(range(len(known.texts))) * 3, vectors) == 0
        return "ok" if right else f"status {response.status}"


def test_sigterm_under_load(model_repository: Path, known: Known, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(model_repository, "--stop-timeout-s", "60", killed=True) as service:
        fates: list[Fate] = []
        signalled = 0.0

        async def scenario() -> str:
            nonlocal signalled
            # One connection each; an idle one beside them, which must not hold up the end.
            connector = aiohttp.TCPConnector(limit=0)
            idle, idle_writer = await asyncio.open_connection("127.0.0.1", service.rest_port)
            async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
                loops = [closed_loop(session, service.rest_url, known, 3 * n, fates) for n in range(_CLIENTS)]
                running = [asyncio.create_task(each) for each in loops]
                await asyncio.sleep(2.0)
                big = asyncio.create_task(giant(session, service.rest_url, known))
                await asyncio.sleep(0.3)
                signalled = time.monotonic()
                os.kill(service.pid, signal.SIGTERM)
                await asyncio.gather(*running)
                outcome = await big
            assert await idle.read() == b""
            idle_writer.close()
            return outcome

        assert asyncio.run(scenario()) == "ok"
        supervisor = psutil.Process(service.pid)
        while supervisor.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() - signalled < _BOUND_S, last_lines(service.log)
            time.sleep(0.05)
        took = time.monotonic() - signalled
    before = Counter(fate.outcome for fate in fates if fate.began_s < signalled)
    after = Counter(fate.outcome for fate in fates if fate.began_s >= signalled)
    assert set(before) == {"ok"}
    assert before["ok"] > _CLIENTS
    # The end of the listening socket is the only thing that a client may meet.
    assert set(after) <= {"ok", "refused"}
    assert after["refused"] == _CLIENTS
    with capsys.disabled():
        print(  # noqa: T201
            f"\nSIGTERM: ended after {took:.1f} s; {_CLIENTS} connections, begun before: {dict(before)}, after: "
            f"{dict(after)}",
            end="",
        )
