"""The client through the REST shim: what differs from Triton's ports, and every way in which HTTP says no."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate

import numpy as np
import pytest
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from client import (
    AsyncEmbeddingClient,
    DeadlineExceeded,
    EmbeddingClient,
    EmbeddingError,
    InvalidInput,
    Overloaded,
    ServerError,
    Unavailable,
)
from client._rest import _Answer, _failure, _retry_after_s
from client.rest import Settings, create_app
from tests.support.service import Service
from tests.support.shim import running


class Doorman:
    """Stands before the real shim: turns the first requests away, and remembers the keys that were shown."""

    def __init__(self, service: Service, turned_away: int, retry_after: str) -> None:
        self._app = create_app(Settings(triton_url=service.grpc_url))
        self._left = turned_away
        self._retry_after = retry_after
        self.keys: set[bytes | None] = set()
        self.answers: set[bytes | None] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.keys.add(dict(scope["headers"]).get(b"authorization"))
            if self._left:
                self._left -= 1
                answer = Response("busy", 429, {"Retry-After": self._retry_after})
                await answer(scope, receive, send)
                return

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["path"] == "/embedding":
                self.answers.add(dict(message["headers"]).get(b"content-type"))
            await send(message)

        await self._app(scope, receive, watched)


@pytest.mark.triton
def test_turned_away_it_waits_as_long_as_it_is_told(service: Service) -> None:
    doorman = Doorman(service, turned_away=2, retry_after="1")
    with running(doorman) as url, EmbeddingClient(f"rest+{url}", api_key="secret") as client:
        began = time.monotonic()
        assert client.embed(["a"], deadline_s=30).shape == (1, 384)
        assert time.monotonic() - began >= 2
    assert doorman.keys == {b"Bearer secret"}


@pytest.mark.triton
def test_told_to_wait_beyond_the_deadline_it_gives_up_at_once(service: Service) -> None:
    doorman = Doorman(service, turned_away=1, retry_after="60")
    with running(doorman) as url, EmbeddingClient(f"rest+{url}/") as client:
        began = time.monotonic()
        with pytest.raises(Overloaded, match="answered 429") as caught:
            client.embed(["a"], deadline_s=10)
        assert caught.value.retry_after_s == 60
        assert time.monotonic() - began < 5
    assert doorman.keys == {None}


@pytest.mark.triton
def test_vectors_come_in_binary(service: Service) -> None:
    doorman = Doorman(service, turned_away=0, retry_after="1")
    with running(doorman) as url, EmbeddingClient(f"rest+{url}") as client:
        rest = client.embed(["a", "b" * 1000])
    with EmbeddingClient(service.grpc_url) as client:
        np.testing.assert_allclose(rest, client.embed(["a", "b" * 1000]), rtol=0, atol=1e-5)
    assert doorman.answers == {b"application/octet-stream"}
    rest[0] = 0  # the caller's own


def test_json_of_an_older_shim_is_read_too() -> None:
    answer = _Answer({"Content-Type": "application/json"}, b'{"embeddings": [[1, 2.5], [3, 4]]}')
    assert answer.vectors().tolist() == [[1, 2.5], [3, 4]]


@pytest.mark.parametrize(
    ("kind", "shape", "content"),
    [
        ("application/octet-stream", "2,2", b"1234"),
        ("application/octet-stream", "2,x", b"1234" * 4),
        ("application/json", "", b"<html>"),
        ("application/json", "", b"[]"),
        ("application/json", "", b'{"embeddings": [[1, 2], [3]]}'),
    ],
)
def test_other_answers_are_none(kind: str, shape: str, content: bytes) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        _Answer({"Content-Type": kind, "X-Shape": shape}, content).vectors()


@pytest.mark.triton
def test_what_only_triton_can_do(service: Service) -> None:
    async def ask() -> None:
        async with AsyncEmbeddingClient(f"rest+{service.rest_url}") as client:
            with pytest.raises(InvalidInput, match="wanted Triton's address"):
                await client.tokenizer()
            with pytest.raises(InvalidInput, match="truncate_left: wanted Triton's address"):
                await client.embed_encoded([b"a"], None, False, truncate_left=True)

    asyncio.run(ask())


@pytest.mark.triton
def test_the_shims_words_arrive(service: Service) -> None:
    with (
        EmbeddingClient(f"rest+{service.rest_url}") as client,
        pytest.raises(InvalidInput, match="/embedding answered 413: body: wanted at most"),
    ):
        client.embed(["x" * 40_000_000])


@pytest.mark.triton
def test_tritons_port_is_not_the_shims(service: Service) -> None:
    with (
        EmbeddingClient(f"rest+{service.http_url}") as client,
        pytest.raises(InvalidInput, match="/info answered 404: wanted the REST shim's address"),
    ):
        client.embed(["a"])


@pytest.mark.triton
def test_the_shims_port_is_not_tritons(service: Service) -> None:
    with (
        EmbeddingClient(service.rest_url) as client,
        pytest.raises(InvalidInput, match=rf"found the REST shim: rest\+{service.rest_url}"),
    ):
        client.embed(["a"])


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, InvalidInput),
        (401, InvalidInput),
        (403, InvalidInput),
        (413, InvalidInput),
        (422, InvalidInput),
        (429, Overloaded),
        (502, Unavailable),
        (503, Unavailable),
        (504, DeadlineExceeded),
        (500, ServerError),
        (418, ServerError),
    ],
)
def test_statuses(status: int, expected: type[EmbeddingError]) -> None:
    error = _failure(status, {}, b'{"error": {"type": "x", "message": "the words"}}', "http://x/embedding")
    assert type(error) is expected
    assert str(error) == f"http://x/embedding answered {status}: the words"
    assert error.retry_after_s is None


def test_a_proxys_page_is_not_quoted() -> None:
    error = _failure(502, {"Retry-After": "7"}, b"<html>Bad gateway</html>", "http://x")
    assert (str(error), error.retry_after_s) == ("http://x answered 502: no words of the embedding service", 7)


def test_retry_after_as_a_date() -> None:
    in_a_minute = _retry_after_s({"Retry-After": formatdate(time.time() + 60, usegmt=True)})
    assert in_a_minute is not None
    assert 55 < in_a_minute <= 60
    assert _retry_after_s({"Retry-After": formatdate(0, usegmt=True)}) == 0
    assert _retry_after_s({"Retry-After": "soon"}) is None
