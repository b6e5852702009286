"""The REST shim in front of the real service: what works, what is refused and how, order, fairness, hanging up."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from client import EmbeddingClient
from tests.support.service import Service
from tests.support.triton import Triton

pytestmark = pytest.mark.triton

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.rest_url, timeout=120) as client:
        yield client


def texts(**fields: object) -> bytes:
    return json.dumps({"texts": ["a"], **fields}).encode()


def assert_refused(answer: httpx.Response, status: int, kind: str, message: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"type", "message"}
    assert error["type"] == kind
    assert error["message"].startswith(message)
    assert len(error["message"]) < 300


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/ld+json"])
def test_other_ways_to_say_json(http: httpx.Client, content_type: str) -> None:
    assert http.post("/embedding", content=texts(), headers={"Content-Type": content_type}).status_code == 200


def test_a_body_of_unknown_length_is_refused_while_it_comes(http: httpx.Client) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(40):
            sent += 1 << 20
            yield b"a" * (1 << 20)

    answer = http.post("/embedding", content=endless(), headers=JSON)
    assert_refused(answer, 413, "body_too_large", "body: wanted at most 33554432 bytes, got more")


def test_a_huge_declared_length_is_refused_at_once(service: Service) -> None:
    head = "POST /embedding HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    with socket.create_connection(("127.0.0.1", service.rest_port), timeout=10) as connection:
        connection.sendall(f"{head}Content-Length: {10**15}\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_bad_request_does_not_hurt_its_neighbours(http: httpx.Client) -> None:
    bodies = [texts(), texts(max_length=0)] * 30
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda body: http.post("/embedding", content=body, headers=JSON), bodies))
    assert [answer.status_code for answer in answers] == [200, 422] * 30


GOOD_TEXTS = {
    "empty": "",
    "space": " ",
    "one-character": "a",
    "nul": "\x00",
    "nul-inside": "a\x00b",
    "control-characters": "\x01\x07\x1b\x7f\u200b\ufeff",
    "emoji": "🤗👩‍👩‍👧‍👦",
    "cjk": "量子計算入門",
    "right-to-left": "مرحبا بالعالم",
    "one-long-word": "x" * 10_000,
    "megabyte": "The quick brown fox jumps over the lazy dog. " * 23_302,
    "megabyte-of-cjk": "量子計算入門" * 58_255,
}


@pytest.mark.parametrize("name", GOOD_TEXTS)
def test_good_texts(http: httpx.Client, service: Service, name: str) -> None:
    text = GOOD_TEXTS[name]
    answer = http.post("/embedding", json={"texts": [text, "a neighbour"]})
    assert answer.status_code == 200
    with EmbeddingClient(service.grpc_url) as client:
        expected = client.embed([text, "a neighbour"], max_length=128)
    np.testing.assert_allclose(answer.json()["embeddings"], expected, atol=1e-5)


def test_the_example_of_the_page(http: httpx.Client) -> None:
    operation = http.get("/openapi.json").json()["paths"]["/embedding"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["schema"]["examples"][0]
    answer = http.post("/embedding", json=example)
    assert list(answer.json()) == ["embeddings"]
    assert np.array(answer.json()["embeddings"]).shape == (3, 384)


def test_defaults(http: httpx.Client) -> None:
    long = "word " * 300
    plain, explicit, longer = (
        np.array(http.post("/embedding", json={"texts": [long], **fields}).json()["embeddings"])
        for fields in ({}, {"max_length": 128, "normalize": False}, {"max_length": 256})
    )
    np.testing.assert_allclose(plain, explicit, atol=1e-6)
    assert np.abs(plain - longer).max() > 1e-3


def test_normalize(http: httpx.Client) -> None:
    answer = http.post("/embedding", json={"texts": ["a", "b"], "normalize": True})
    np.testing.assert_allclose(np.linalg.norm(answer.json()["embeddings"], axis=1), 1, rtol=1e-6)


def test_health_and_info(http: httpx.Client, service: Service) -> None:
    assert http.get("/health/live").json() == {"status": "live"}
    assert http.get("/health/ready").json() == {"status": "ready"}
    info = http.get("/info").json()
    manifest = json.loads((service.model_repository / "bert/1/manifest.json").read_text())
    assert info["digest"] == manifest["digest"]
    assert info["dimensions"] == 384
    assert info["limits"]["max_length"] == {"minimum": 2, "maximum": 512, "default": 128, "model": 256}
    assert info["versions"]["triton"].startswith("2.")


def test_ten_thousand_texts_in_order_beside_small_requests(http: httpx.Client) -> None:
    """A big request neither fails nor starves small ones."""
    big = [f"text {number}" for number in range(10_000)]
    results: list[httpx.Response] = []
    sender = threading.Thread(target=lambda: results.append(http.post("/embedding", json={"texts": big})))
    began = time.monotonic()
    sender.start()
    small_s = []
    while sender.is_alive():
        before = time.monotonic()
        assert http.post("/embedding", json={"texts": ["a small one"]}).status_code == 200
        small_s.append(time.monotonic() - before)
        time.sleep(0.02)
    sender.join()
    big_s = time.monotonic() - began
    vectors = np.array(results[0].json()["embeddings"], np.float32)
    assert vectors.shape == (10_000, 384)
    for index in (0, 63, 64, 5_000, 9_999):
        alone = http.post("/embedding", json={"texts": [big[index]]}).json()["embeddings"][0]
        np.testing.assert_allclose(vectors[index], alone, atol=1e-5)
    # It waits for the texts that the big one has in Triton, 64 of 10,000, and never for the rest. The last answer
    # may have been written while the big one's was.
    assert float(np.median(small_s)) < big_s / 20, (big_s, small_s)
    assert max(small_s) < big_s / 4, (big_s, small_s)


def test_hanging_up_stops_the_work(http: httpx.Client, service: Service, triton: Triton) -> None:
    body = json.dumps({"texts": [f"{'word ' * 60}{number}" for number in range(10_000)]}).encode()
    address = httpx.URL(service.rest_url)
    head = f"POST /embedding HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"

    def computed() -> int:
        return triton.statistics("bert").inference_count - before

    before = triton.statistics("bert").inference_count
    with socket.create_connection((address.host, address.port), timeout=10) as caller:
        caller.sendall(f"{head}\r\n\r\n".encode() + body)
        deadline = time.monotonic() + 60
        while computed() == 0:  # Triton counts a batch when it is done
            assert time.monotonic() < deadline, "the work did not begin"
            time.sleep(0.05)
    counts = [0, computed()]
    # What was in Triton already is finished; one text at a time is the supervisor's watch.
    while counts[-1] - counts[-2] > 3:
        assert counts[-1] < 5_000
        time.sleep(1.0)
        counts.append(computed())
    assert http.post("/embedding", json={"texts": ["a"]}).status_code == 200
