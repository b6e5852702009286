"""Vectors in binary, from the real service: the same numbers as in JSON, for whoever asks for them."""

from __future__ import annotations

import io
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from tests.support.service import Service

pytestmark = pytest.mark.triton

BINARY, NPY = "application/octet-stream", "application/x-npy"
TEXTS = ["The cat sits outside", "A man is playing guitar", "a"]


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.rest_url, timeout=120) as client:
        yield client


def vectors(answer: httpx.Response) -> np.ndarray:
    """By the answer's own type."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["vary"] == "Accept"
    kind = answer.headers["content-type"]
    if kind == "application/json":
        content = answer.json()
        return np.array(content["embeddings"] if isinstance(content, dict) else content, np.float32)
    if kind == NPY:
        return np.asarray(np.load(io.BytesIO(answer.content), allow_pickle=False))
    assert kind == BINARY
    shape = [int(size) for size in answer.headers["x-shape"].split(",")]
    return np.frombuffer(answer.content, "<f4").reshape(shape)


@pytest.mark.parametrize("count", [3, 300])  # at once, and in blocks
@pytest.mark.parametrize("kind", [BINARY, NPY])
def test_same_numbers_as_in_json(http: httpx.Client, kind: str, count: int) -> None:
    body = {"texts": [f"{TEXTS[number % 3]} {number}" for number in range(count)]}
    expected = vectors(http.post("/embedding", json=body))
    answer = http.post("/embedding", json=body, headers={"Accept": kind})
    assert answer.headers["content-type"] == kind
    assert int(answer.headers["content-length"]) == len(answer.content)
    found = vectors(answer)
    assert found.dtype == np.dtype("<f4")
    assert found.shape == (count, 384)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("path", ["/embed", "/"])
def test_on_teis_routes_too(http: httpx.Client, path: str) -> None:
    body = {"inputs": TEXTS, "dimensions": 100}
    expected = vectors(http.post(path, json=body))
    for kind in (BINARY, NPY):
        answer = http.post(path, json=body, headers={"Accept": kind})
        assert answer.headers["content-type"] == kind
        np.testing.assert_allclose(vectors(answer), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("accept", ["*/*", "text/html", "application/json, application/octet-stream;q=0.9", "x;;"])
def test_json_for_all_others(http: httpx.Client, accept: str) -> None:
    answer = http.post("/embedding", json={"texts": TEXTS}, headers={"Accept": accept})
    assert answer.headers["content-type"] == "application/json"
    assert vectors(answer).shape == (3, 384)


def test_failures_are_json_always(http: httpx.Client) -> None:
    answer = http.post("/embedding", json={"texts": []}, headers={"Accept": BINARY})
    assert (answer.status_code, answer.json()["error"]["type"]) == (422, "invalid_input")


def test_a_third_of_the_bytes(http: httpx.Client, real_texts: list[str]) -> None:
    body = {"texts": real_texts[:32]}
    json = http.post("/embedding", json=body)
    binary = http.post("/embedding", json=body, headers={"Accept": BINARY})
    assert len(binary.content) == 32 * 384 * 4
    assert len(json.content) > 2.5 * len(binary.content)
