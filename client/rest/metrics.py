"""`GET /metrics`: what Prometheus asks, of the shim itself; Triton has its own.

account of each request  ->  counters and histograms, in a registry of this application  ->  text

Labels have few values whatever is sent: routes are templates, methods and errors those that we know.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from fastapi import APIRouter, Response
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from client import AsyncEmbeddingClient, EmbeddingError, __version__
from client._manifest import Manifest
from client.rest.account import Account, Keeper
from client.rest.cache import VectorCache

__all__ = ["Metrics", "router"]

# From a text in the cache, about 1 ms, over a text at an idle Triton, some 5 ms on two CPU cores, to 10,000 texts
# there, a minute. Round numbers, because targets are round; at most 2.5 times the one before, and so wrong is at most a
# quantile read from them.
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 10_000)
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
# What is ours or Triton's to mend; all other errors are requests that were turned away.
_UPSTREAM = frozenset({"unavailable", "deadline_exceeded", "server_error"})
# Nobody turned it away: it left.
_LEFT = "client_disconnected"
# A scrape tells of the model even if nobody has asked for an embedding yet, but waits only so long for a lost Triton.
_MODEL_TIMEOUT_S = 1.0


class Metrics(Keeper):
    """The application's metrics."""

    def __init__(self, client: AsyncEmbeddingClient) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a line more each, of no use to Prometheus
        registry = CollectorRegistry()
        self._registry = registry
        self._client = client
        self._requests = Counter(
            "embedding_requests",
            "Requests answered, by their answer.",
            ("route", "method", "status"),
            registry=registry,
        )
        self._duration = Histogram(
            "embedding_request_duration_seconds",
            "From a request's head to the last byte of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._triton = Histogram(
            "embedding_triton_duration_seconds",
            "The part of a request's time in which Triton had at least one of its texts.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._texts = Counter("embedding_texts", "Texts whose vectors were answered.", ("route",), registry=registry)
        self._tokens = Counter("embedding_tokens", "Tokens of those texts.", ("route",), registry=registry)
        self._texts_per_request = Histogram(
            "embedding_texts_per_request", "Texts of a request with vectors.", buckets=_TEXTS, registry=registry
        )
        self._in_flight = Gauge(
            "embedding_requests_in_flight", "Requests not answered yet, probes left out.", registry=registry
        )
        at_triton = Gauge("embedding_texts_in_flight", "Texts that Triton has.", registry=registry)
        at_triton.set_function(lambda: client.room.on_the_way)
        waiting = Gauge("embedding_texts_waiting", "Texts that wait for room at Triton.", registry=registry)
        waiting.set_function(lambda: client.room.waiting)
        self._rejected = Counter(
            "embedding_rejected", "Requests turned away, by the type of their error.", ("reason",), registry=registry
        )
        self._upstream = Counter(
            "embedding_upstream_errors", "Requests that failed at Triton or in the shim.", ("type",), registry=registry
        )
        self._hits = Counter("embedding_cache_hits", "Texts found in the cache.", registry=registry)
        self._misses = Counter("embedding_cache_misses", "Texts looked for in vain.", registry=registry)
        self._cache_bytes = Gauge("embedding_cache_bytes", "Memory that the cache takes.", registry=registry)
        self._cache_entries = Gauge("embedding_cache_entries", "Texts in the cache.", registry=registry)
        self._model = Gauge(
            "embedding_model_info",
            "The model served now.",
            ("model", "digest", "precision", "graph"),
            registry=registry,
        )
        Info("embedding_build", "This service.", registry=registry).info({"version": __version__})
        ProcessCollector(registry=registry)
        # Known from the start, so that a rate over the first one is right.
        for kind in _UPSTREAM:
            self._upstream.labels(kind)
        self._rejected.labels("overloaded")

    def watch_cache(self, cache: VectorCache) -> None:
        """Have the cache asked at each scrape. Hits and misses come with the accounts."""
        self._cache_bytes.set_function(lambda: cache.size_bytes)
        self._cache_entries.set_function(lambda: cache.entries)

    def opened(self, account: Account) -> None:
        """See Keeper."""
        if not account.probe:
            self._in_flight.inc()

    def closed(self, account: Account) -> None:
        """See Keeper."""
        if not account.probe:
            self._in_flight.dec()
        method = account.method if account.method in _METHODS else "other"
        self._requests.labels(account.route, method, account.status).inc()
        self._duration.labels(account.route).observe(account.total_s)
        if account.call.server_s:
            self._triton.observe(account.call.server_s)
        if account.error in _UPSTREAM:
            self._upstream.labels(account.error).inc()
        elif account.error and account.error != _LEFT:
            self._rejected.labels(account.error).inc()
        elif account.digest:
            self._texts.labels(account.route).inc(account.texts)
            self._tokens.labels(account.route).inc(account.tokens)
            self._texts_per_request.observe(account.texts)
        self._hits.inc(account.cache_hits)
        self._misses.inc(account.cache_misses)

    def refusal(self, route: str, status: int) -> Callable[[], None]:
        """What counts a request that was refused before it had an account; cheap, for it is called at overload."""
        requests, rejected = self._requests.labels(route, "POST", status), self._rejected.labels("overloaded")

        def count() -> None:
            requests.inc()
            rejected.inc()

        return count

    async def exposition(self) -> bytes:
        """All of them, in Prometheus' text format."""
        model = await self._served_model()
        self._model.clear()
        if model is not None:
            self._model.labels(model.model, model.digest, model.precision, model.graph).set(1)
        return generate_latest(self._registry)

    async def _served_model(self) -> Manifest | None:
        with contextlib.suppress(EmbeddingError, TimeoutError):
            async with asyncio.timeout(_MODEL_TIMEOUT_S):
                return await self._client.info()
        return None


def router(metrics: Metrics) -> APIRouter:
    """The route."""
    result = APIRouter(tags=["operations"])

    @result.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    async def scrape() -> Response:
        """In Prometheus' text format. Triton's own are at its own port."""
        return Response(await metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    return result
