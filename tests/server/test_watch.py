"""Hangs of real processes: found where one does nothing, and only there."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from server.hang import HangLimits
from server.watch import Part, certain_death

LIMITS = HangLimits(idle_s=1.0, busy_s=3600.0, look_s=0.1)
IDLE = "import time; time.sleep(3600)"
BUSY = "while True: pass"


@contextlib.contextmanager
def process(code: str) -> Iterator[psutil.Process]:
    with subprocess.Popen([sys.executable, "-c", code]) as child:
        try:
            yield psutil.Process(child.pid)
        finally:
            child.kill()


async def never() -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    pass


def death(parts: list[Part], timeout_s: float) -> str | None:
    async def scenario() -> str | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                return await certain_death(never, parts, LIMITS)
        return None

    return asyncio.run(scenario())


def test_the_part_that_does_nothing_is_named() -> None:
    with process(IDLE) as idle, process(BUSY) as busy:
        parts = [Part("idle", at_once, [idle]), Part("busy", never, [busy]), Part("hung", never, [idle])]
        assert death(parts, 60) == "hung hangs"


def test_a_stopped_process_hangs() -> None:
    with process(BUSY) as stopped:
        stopped.suspend()
        assert death([Part("stopped", never, [stopped])], 60) == "stopped hangs"


@pytest.mark.parametrize("code", [BUSY, "import time\nwhile True: time.sleep(0.01); [n * n for n in range(20000)]"])
def test_a_busy_one_does_not(code: str) -> None:
    with process(code) as busy:
        assert death([Part("busy", never, [busy])], 2.5) is None


def test_one_that_finishes_requests_does_not() -> None:
    finished = 0

    async def count() -> int:
        nonlocal finished
        finished += 1
        return finished // 3

    with process(IDLE) as idle:
        assert death([Part("slow", never, [idle], count)], 2.5) is None


def test_an_answer_may_tell_of_a_death() -> None:
    async def tell() -> str:
        return "all is lost"

    assert asyncio.run(certain_death(tell, [], LIMITS)) == "all is lost"
