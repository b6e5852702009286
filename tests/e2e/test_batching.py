"""Dynamic batching acts: concurrent single texts of mixed lengths share executions of every step."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from client import EmbeddingClient
from tests.support.service import Service
from tests.support.triton import Triton

pytestmark = pytest.mark.triton

CLIENTS = 32
TEXTS_EACH = 6


def mean_batch_sizes(triton: Triton, texts: list[str], send: Callable[[str], object]) -> dict[str, float]:
    before = {model: triton.statistics(model) for model in ("tokenizer", "bert")}
    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(send, texts[: CLIENTS * TEXTS_EACH]))
    return {model: triton.mean_batch_size(model, statistics) for model, statistics in before.items()}


def test_through_bare_triton(service: Service, triton: Triton, real_texts: list[str]) -> None:
    sizes = mean_batch_sizes(triton, real_texts, lambda text: triton.embed([text], 128))
    assert min(sizes.values()) > 1.5, sizes


def test_through_the_client(service: Service, triton: Triton, real_texts: list[str]) -> None:
    with EmbeddingClient(service.grpc_url) as client:
        sizes = mean_batch_sizes(triton, real_texts, lambda text: client.embed([text], max_length=128))
    assert min(sizes.values()) > 1.5, sizes


def test_through_rest(service: Service, triton: Triton, real_texts: list[str]) -> None:
    limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
    with httpx.Client(base_url=service.rest_url, limits=limits, timeout=60) as http:

        def send(text: str) -> None:
            http.post("/embedding", json={"texts": [text]}).raise_for_status()

        sizes = mean_batch_sizes(triton, real_texts, send)
    assert min(sizes.values()) > 1.5, sizes


@pytest.mark.parametrize("ensemble", ["embedding", "embedding_fused"])
def test_no_request_is_forgotten_in_a_queue(triton: Triton, ensemble: str) -> None:
    """One that comes while another is computed runs next, and not half a second later (docs/adr/0003)."""

    def slowest(text: str) -> float:
        worst = 0.0
        for _ in range(60):
            began = time.perf_counter()
            triton.embed([text], 128, ensemble)
            worst = max(worst, time.perf_counter() - began)
        return worst

    # Two clients: nobody else comes by and wakes who waits.
    with ThreadPoolExecutor(2) as threads:
        assert max(threads.map(slowest, ["a", "one and two"])) < 0.35
