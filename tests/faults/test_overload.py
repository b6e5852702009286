"""Busy is not dead: a Triton with much more work than it can do is left alone, and says that it lives.

The work comes past the shim, which would admit less of it. A text of the shim's own then waits for all of it, so that
readiness may fail meanwhile, as it should where requests would wait as long; overload through the shim is in
tests/e2e/test_overload.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from client import AsyncEmbeddingClient, Limits
from tests.support.service import Service, serving

pytestmark = [pytest.mark.triton, pytest.mark.slow]

# Texts of 512 tokens, past the shim, in batches as large as Triton takes: each batch takes seconds, all of them many
# times the time after which a hang is a hang here.
_BATCHES = 8
_HANG_S = 2.0


@pytest.fixture
def service(model_repository: Path) -> Iterator[Service]:
    with serving(model_repository, "--hang-timeout-s", str(_HANG_S)) as running:
        yield running


def test_nothing_is_restarted_and_it_lives(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    ready: list[tuple[int, str]] = []
    live: list[int] = []

    async def flood() -> float:
        began = time.monotonic()
        limits = Limits(piece=64, least=64 * _BATCHES, most=64 * _BATCHES)
        async with AsyncEmbeddingClient(service.grpc_url, ensemble="embedding", limits=limits, timeout_s=600) as client:
            await client.embed(["word " * 600] * 64 * _BATCHES, max_length=512)
        return time.monotonic() - began

    async def probe() -> None:
        async with httpx.AsyncClient(base_url=service.rest_url, timeout=30) as http:
            while True:
                answer = await http.get("/health/ready")
                ready.append((answer.status_code, answer.json().get("status", "")))
                live.append((await http.get("/health/live")).status_code)
                await asyncio.sleep(0.5)

    async def scenario() -> float:
        probing = asyncio.create_task(probe())
        try:
            return await flood()
        finally:
            probing.cancel()

    took = asyncio.run(scenario())
    assert took > 5 * _HANG_S
    assert "starting it anew" not in service.log.read_text()
    assert set(live) == {200}
    assert ready[0] == (200, "ready")
    assert httpx.get(f"{service.rest_url}/health/ready", timeout=30).status_code == 200, "ready again"
    with capsys.disabled():
        print(f"\n{_BATCHES} batches of 64 x 512 tokens: {took:.0f} s, probes: {sorted(set(ready))}", end="")  # noqa: T201
