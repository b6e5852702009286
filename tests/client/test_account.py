"""What an answer's headers tell of its request: its id, its times, its tokens and its model."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from client import EmbeddingClient
from tests.support.service import Service

pytestmark = pytest.mark.triton

BODY = {"texts": ["The cat sits outside", "A man"], "max_length": 128}


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.rest_url, timeout=120) as client:
        yield client


def test_an_id_is_made_or_taken_over(http: httpx.Client) -> None:
    made = {http.get("/health/live").headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    assert http.post("/embedding", json=BODY, headers={"X-Request-ID": "a-b:1"}).headers["x-request-id"] == "a-b:1"
    assert http.get("/nowhere", headers={"X-Request-ID": "a-b:2"}).headers["x-request-id"] == "a-b:2"


@pytest.mark.parametrize("given", ["", "with space", "x" * 129, 'a"b', "ä".encode()])
def test_an_id_that_could_do_harm_is_replaced(http: httpx.Client, given: str | bytes) -> None:
    answer = http.get("/health/live", headers={"X-Request-ID": given})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_an_embedding_tells_its_times_tokens_and_model(http: httpx.Client, service: Service) -> None:
    answer = http.post("/embedding", json=BODY)
    times = {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)", answer.headers["server-timing"])}
    assert set(times) == {"total", "triton", "shim"}
    assert 0 < times["triton"] < times["total"]
    assert times["triton"] + times["shim"] == pytest.approx(times["total"], abs=0.11)
    assert answer.headers["x-tokens"] == str(6 + 4)
    assert answer.headers["x-cache-hits"] == "0"
    with EmbeddingClient(service.grpc_url) as client:
        assert answer.headers["x-model-digest"] == client.info().digest


def test_what_has_no_vectors_tells_none(http: httpx.Client) -> None:
    for answer in (http.get("/health/ready"), http.post("/embedding", json={"texts": []})):
        assert "server-timing" in answer.headers
        assert not {"x-tokens", "x-cache-hits", "x-model-digest"} & set(answer.headers)
