"""Too much at once, against the real service: most is refused at once, the rest is served, and nobody is starved.

A shim of the tests' own stands in front of the common Triton, so that no other test meets its refusals. The figures
that are promised are measured by `scripts/overload`, which needs a machine of its own; here the bounds are wide.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.http_client import post_bytes
from benchmarks.overload.generator import Storm, storm
from client import AsyncEmbeddingClient, EmbeddingClient, Overloaded, Retries
from client.rest.errors import failure_of, own_form
from tests.support.service import Service
from tests.support.shim import program
from tests.support.triton import Triton

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def url(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with program(tmp_path_factory.mktemp("shim"), "--triton-url", service.grpc_url) as shim:
        yield shim.url


def embed(http: httpx.Client, texts: list[str]) -> httpx.Response:
    return http.post("/embedding", json={"texts": texts})


def probe_until(stop: threading.Event, url: str) -> list[int]:
    """The statuses of readiness and liveness, asked again and again."""
    statuses = []
    with httpx.Client(base_url=url, timeout=30) as http:
        while not stop.wait(0.3):
            statuses += [http.get(path).status_code for path in ("/health/live", "/health/ready")]
    return statuses


def test_a_storm(service: Service, tmp_path: Path, real_texts: list[str]) -> None:
    requests = [real_texts[first : first + 4] for first in range(0, 400, 4)]
    stop = threading.Event()
    with program(tmp_path, "--triton-url", service.grpc_url, "--burst-requests", "8") as shim:
        with ThreadPoolExecutor(1) as threads:
            probing = threads.submit(probe_until, stop, shim.url)
            try:
                # So many that connections suffice, however slow the machine.
                outcomes = asyncio.run(storm(Storm(f"{shim.url}/embedding", requests, per_s=240, seconds=3.5)))
            finally:
                stop.set()
            probes = probing.result()
        time.sleep(3.5)  # and it is over soon
        with httpx.Client(base_url=shim.url, timeout=60) as http:
            assert {embed(http, ["a text"]).status_code for _ in range(10)} == {200}
    status, took = np.array(outcomes.status), np.array(outcomes.latency_s)
    assert set(status) == {200, 429}
    refused = status == 429
    assert refused.mean() > 0.5
    assert np.array(outcomes.retry_after_s)[refused].min() >= 1
    # At once, and not after a wait: on a machine with nothing else to do within 100 ms.
    assert np.median(took[refused]) < 0.5
    # The others wait for what is at Triton and for a few requests, not for the 3,000 texts of the storm.
    done = np.array(outcomes.at_s)[~refused] + took[~refused]
    per_s = 4 * len(done) / done.max()
    assert np.percentile(took[~refused], 95) < max(4.0, 250 / per_s)
    assert len(probes) >= 4
    assert set(probes) == {200}


@pytest.mark.slow
def test_the_door_says_what_a_route_would_say(service: Service, tmp_path: Path) -> None:
    """Before the body is read, and after: nobody can tell which it was, but for the time that the latter took."""
    strict = ("--max-wait-s", "0.001", "--burst-requests", "0")
    with (
        program(tmp_path, "--triton-url", service.grpc_url, *strict) as shim,
        httpx.Client(base_url=shim.url, timeout=120) as http,
        ThreadPoolExecutor(1) as threads,
    ):
        texts = [f"{number} {'word ' * 600}" for number in range(32)]
        long = threads.submit(http.post, "/embedding", json={"texts": texts, "max_length": 512})
        while "embedding_texts_in_flight 0.0" in http.get("/metrics").text:
            assert not long.done(), long.result().text
            time.sleep(0.01)
        answers = []
        while len(answers) < 5 and not long.done():
            answer = http.post("/embedding", json={"texts": ["a"]}, headers={"X-Request-ID": "a-b"})
            if answer.status_code == 429:
                answers.append(answer)
        assert long.result().status_code == 200
    assert len(answers) == 5
    status, expected = own_form(failure_of(Overloaded("")))
    for answer in answers:
        assert (answer.status_code, answer.json()) == (status, expected)
        assert answer.headers["content-type"] == "application/json"
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["x-request-id"] == "a-b"
        assert "server-timing" not in answer.headers  # the mark of a route


@pytest.mark.slow
def test_who_is_refused_and_comes_back_gets_right_vectors(url: str, service: Service, real_texts: list[str]) -> None:
    """The client does what Retry-After says."""
    texts = real_texts[:50]

    async def scenario() -> list[np.ndarray]:
        retries = Retries(attempts=20)
        async with AsyncEmbeddingClient(f"rest+{url}", timeout_s=120, retries=retries) as client:
            noise = asyncio.create_task(
                storm(Storm(f"{url}/embedding", [[text] for text in real_texts[:50]], per_s=300, seconds=2, seed=1))
            )
            await asyncio.sleep(0.5)
            vectors = await asyncio.gather(*(client.embed([text], max_length=128) for text in texts))
            await noise
            return vectors

    vectors = np.concatenate(asyncio.run(scenario()))
    with EmbeddingClient(service.grpc_url) as client:
        np.testing.assert_allclose(vectors, client.embed(texts, max_length=128), atol=1e-5)


@pytest.mark.parametrize(
    ("clients", "texts"),
    [(16, 1), pytest.param(4, 32, marks=pytest.mark.slow), pytest.param(64, 3, marks=pytest.mark.slow)],
)
def test_normal_use_meets_no_refusal(
    service: Service, tmp_path: Path, real_texts: list[str], clients: int, texts: int
) -> None:
    def client(number: int) -> list[int]:
        with httpx.Client(base_url=shim.url, timeout=120) as http:
            end = time.monotonic() + 3
            statuses = []
            while time.monotonic() < end or not statuses:
                first = (number * 31 + len(statuses) * texts) % 500
                statuses.append(embed(http, real_texts[first : first + texts]).status_code)
            return statuses

    arguments = ("--triton-url", service.grpc_url, "--cache-bytes", "0")
    with program(tmp_path, *arguments) as shim, ThreadPoolExecutor(clients) as threads:
        for statuses in threads.map(client, range(clients)):
            assert set(statuses) == {200}


def test_two_giants_and_small_ones_are_all_served(url: str, real_texts: list[str]) -> None:
    giant = [f"text {number}" for number in range(1000)]
    with httpx.Client(base_url=url, timeout=240) as http, ThreadPoolExecutor(2) as threads:
        time.sleep(3.5)  # an overload of the tests before is over
        began = time.monotonic()
        giants = [threads.submit(embed, http, giant) for _ in range(2)]
        small_s = []
        while not all(each.done() for each in giants):
            before = time.monotonic()
            assert embed(http, [real_texts[len(small_s)]]).status_code == 200
            small_s.append(time.monotonic() - before)
            time.sleep(0.05)
        giant_s = time.monotonic() - began
    assert [each.result().status_code for each in giants] == [200, 200]
    assert len(small_s) > 3
    # What the giants have at Triton, some tenths of a second's work, and not the rest of it.
    assert np.median(small_s) < giant_s / 4, (giant_s, small_s)


def test_who_hangs_up_frees_the_place(service: Service, triton: Triton, tmp_path: Path) -> None:
    """Single texts too, and while they wait."""
    with program(tmp_path, "--triton-url", service.grpc_url, "--most-texts-in-flight", "32") as shim:
        url, port = shim.url, int(shim.url.rpartition(":")[2])
        body = json.dumps({"texts": ["word " * 600], "max_length": 512}).encode()
        request = post_bytes(f"{url}/embedding", body)
        before = triton.statistics("bert").inference_count
        with contextlib.ExitStack() as stack:
            # 32 of them go to Triton, where each takes 0.1 s on two cores; the others wait.
            for _ in range(90):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                connection.sendall(request)
            time.sleep(0.5)
        with httpx.Client(base_url=url, timeout=60) as http:
            assert embed(http, ["a text"]).status_code == 200
        embedded = triton.statistics("bert").inference_count - before
    # Those that Triton had begun are done, and no others.
    assert embedded < 60
