"""Trying again, within a deadline: the rule by itself, and a real server that comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Never

import numpy as np
import pytest

from client import (
    AsyncEmbeddingClient,
    DeadlineExceeded,
    EmbeddingClient,
    EmbeddingError,
    InvalidInput,
    Overloaded,
    Retries,
    ServerError,
    Unavailable,
)
from client._retry import retried
from tests.support.forwarder import forwarding
from tests.support.service import Service, free_ports

QUICK = Retries(attempts=4, first_s=0.01, most_s=0.02)


class Work:
    """Fails with each of the errors, then succeeds."""

    def __init__(self, *errors: EmbeddingError) -> None:
        self.errors = list(errors)
        self.began: list[float] = []

    async def __call__(self) -> str:
        self.began.append(time.monotonic())
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@pytest.mark.parametrize("error", [Overloaded, Unavailable])
def test_full_and_away_are_tried_again(error: Callable[[str], EmbeddingError]) -> None:
    work = Work(error("1"), error("2"), error("3"))
    assert asyncio.run(retried(work, QUICK)) == "done"
    assert len(work.began) == 4


def test_the_last_error_is_raised_when_the_attempts_are_used_up() -> None:
    with pytest.raises(Overloaded, match="4"):
        asyncio.run(retried(Work(*(Overloaded(str(number)) for number in range(1, 9))), QUICK))


@pytest.mark.parametrize("error", [InvalidInput("a"), ServerError("b"), DeadlineExceeded("c")])
def test_others_are_not_tried_again(error: EmbeddingError) -> None:
    work = Work(error)
    with pytest.raises(type(error)):
        asyncio.run(retried(work, QUICK))
    assert len(work.began) == 1


def test_one_attempt_is_one() -> None:
    work = Work(Overloaded("full"))
    with pytest.raises(Overloaded):
        asyncio.run(retried(work, Retries(attempts=1)))
    assert len(work.began) == 1


def test_what_the_server_asks_to_wait_is_waited() -> None:
    work = Work(Overloaded("full", retry_after_s=0.3))
    asyncio.run(retried(work, QUICK))
    assert 0.3 <= work.began[1] - work.began[0] < 0.6


def test_a_wait_past_the_deadline_is_not_begun() -> None:
    async def scenario() -> None:
        await retried(Work(Overloaded("full", retry_after_s=60)), QUICK, asyncio.get_running_loop().time() + 5)

    began = time.monotonic()
    with pytest.raises(Overloaded, match="full"):
        asyncio.run(scenario())
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("arguments", [{"attempts": 0}, {"first_s": -1.0}, {"first_s": 9.0, "most_s": 8.0}])
def test_settings_that_make_no_sense(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="wanted attempts >= 1"):
        Retries(**arguments)  # type: ignore[arg-type]


@pytest.mark.triton
@pytest.mark.parametrize("scheme", ["grpc", "http", "rest+http"])
def test_a_server_that_comes_back(service: Service, scheme: str) -> None:
    (port,) = free_ports(1)
    target = {"grpc": service.grpc_port, "http": service.http_port, "rest+http": service.rest_port}[scheme]
    texts = [f"text {number}" for number in range(100)]

    async def scenario() -> np.ndarray:
        retries = Retries(attempts=20, first_s=0.2, most_s=0.5)
        async with AsyncEmbeddingClient(f"{scheme}://127.0.0.1:{port}", retries=retries) as client:
            call = asyncio.create_task(client.embed(texts, deadline_s=60))
            await asyncio.sleep(0.5)
            assert not call.done()
            async with forwarding(port, target):
                first = await call
            # Cut in the middle of a call, and back.
            call = asyncio.create_task(client.embed(texts, deadline_s=60))
            await asyncio.sleep(0.3)
            assert not call.done()
            async with forwarding(port, target):
                np.testing.assert_allclose(await call, first, atol=1e-5)
                return first

    with EmbeddingClient(service.grpc_url) as client:
        np.testing.assert_allclose(asyncio.run(scenario()), client.embed(texts), atol=1e-5)


@pytest.mark.triton
@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_one_deadline_over_all_pieces(service: Service, scheme: str) -> None:
    url = {"grpc": service.grpc_url, "http": service.http_url}[scheme]
    with EmbeddingClient(url) as client:
        client.embed(["warm"])
        began = time.monotonic()
        # Each piece is quick enough; all of them are not.
        with pytest.raises(DeadlineExceeded, match=rf"no answer from {url} within 0.5 s"):
            client.embed(["word " * 100] * 5000, deadline_s=0.5)
        assert time.monotonic() - began < 3
        # Nothing of it is left in the way.
        assert client.embed(["a"], deadline_s=30).shape == (1, 384)


@pytest.mark.triton
def test_a_cancelled_call_takes_its_pieces_along(service: Service) -> None:
    async def scenario() -> None:
        async with AsyncEmbeddingClient(service.grpc_url) as client:
            call = asyncio.create_task(client.embed(["word " * 300] * 5000))
            await asyncio.sleep(0.3)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.sleep(0)
            assert client.room.on_the_way == 0
            assert (await client.embed(["a"], deadline_s=30)).shape == (1, 384)

    asyncio.run(scenario())


@pytest.mark.triton
def test_ctrl_c_in_a_synchronous_call_ends_its_work(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddingClient(service.grpc_url) as client:
        client.embed(["warm"])
        start = client._portal.start_task_soon
        calls = []

        def interrupted(*arguments: object) -> object:
            call = start(*arguments)  # type: ignore[arg-type]
            calls.append(call)

            def result() -> Never:
                raise KeyboardInterrupt

            monkeypatch.setattr(call, "result", result)
            return call

        with monkeypatch.context() as patch:
            patch.setattr(client._portal, "start_task_soon", interrupted)
            with pytest.raises(KeyboardInterrupt):
                client.embed(["word " * 300] * 5000)
        assert calls[0].cancelled()
        assert client.embed(["a"], deadline_s=30).shape == (1, 384)
