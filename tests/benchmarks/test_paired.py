"""The paired comparison: that it finds a difference that is there, and none where there is none."""

from __future__ import annotations

import asyncio
import time

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.errors import BenchmarkError
from benchmarks.paired import Side, compare, summary
from client.rest import Settings, create_app
from tests.support.recorder import recording
from tests.support.shim import running


class Slower:
    """Takes a few milliseconds more."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            time.sleep(0.005)
        await self._app(scope, receive, send)


def test_a_difference_is_found() -> None:
    with recording() as triton:
        settings = Settings(triton_url=triton.url, api_keys="a-key")
        with running(create_app(settings)) as one, running(Slower(create_app(settings))) as two:
            sides = [Side("one", one, "a-key"), Side("two", two, "a-key")]
            asyncio.run(compare(sides, rounds=50, warm_up=5))
    assert [len(side.took_s) for side in sides] == [50, 50]
    differences = sorted(mine - its for mine, its in zip(sides[1].took_s, sides[0].took_s, strict=True))
    assert 0.004 < differences[25] < 0.05
    _, first, second = summary(sides).splitlines()
    assert (first.split()[0], second.split()[0]) == ("one", "two")
    assert "+" in second
    assert "+" not in first


def test_a_refusal_is_no_result() -> None:
    with recording() as triton, running(create_app(Settings(triton_url=triton.url, api_keys="a-key"))) as url:
        with pytest.raises(BenchmarkError, match="one: wanted 200, got 401"):
            asyncio.run(compare([Side("one", url)], rounds=1, warm_up=0))
        with pytest.raises(BenchmarkError, match="wanted a process of this machine that listens on port 1, found none"):
            Side("none", "http://127.0.0.1:1").process()
