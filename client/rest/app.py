"""The application: one client, and the routers in front of it. Another interface is another router here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from fastapi import FastAPI

from client import AsyncEmbeddingClient, Retries, __version__
from client.rest import embedding, errors, health, metrics, openai, page, tei
from client.rest.account import Accounting
from client.rest.admission import Admission
from client.rest.connection import affordable
from client.rest.control import taking_orders
from client.rest.door import watch
from client.rest.embedder import Embedder
from client.rest.keys import ApiKeys, describe, documented, guard, parse_keys
from client.rest.log import RequestLog
from client.rest.memory import Memory
from client.rest.settings import Settings
from client.rest.tracing import Tracing, telemetry

__all__ = ["create_app"]

_log = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """Make the application. It starts without Triton, and finds it when it is there.

    `app.state.watch` is for the connections of its server (`client.rest.connection`).
    """
    admission = Admission(settings.limits, settings.patience)
    # Once only: at overload another attempt makes it worse. The caller hears it at once, and knows when to come back.
    # (One more that a Triton was lost under is another matter: `patience_s`.)
    client = AsyncEmbeddingClient(
        settings.triton_url,
        timeout_s=settings.triton_timeout_s,
        room=admission,
        retries=Retries(attempts=1),
        patience_s=settings.patience_s,
        ensemble=settings.ensemble,
    )

    given = settings.api_keys
    keys = ApiKeys(parse_keys(given.get_secret_value()) if given else (), settings.api_keys_file)
    measured = metrics.Metrics(client)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        _log.log(logging.INFO if keys else logging.WARNING, describe(keys, settings.host, settings.port))
        following = asyncio.create_task(keys.follow())
        async with client, taking_orders(settings.control_fd, client):
            yield
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    app = FastAPI(
        title="Embedding service",
        description="Texts in, vectors out: in a form of its own (/embedding), in OpenAI's (/v1) and in TEI's "
        "(/embed, /tokenize, /health). The binary forms of vectors are chosen by the Accept header.",
        version=__version__,
        lifespan=lifespan,
        dependencies=guard(keys),
        telemetry=telemetry(),
        # A redirect would lead to the host that the request names, and has no form of ours: no such path, then.
        redirect_slashes=False,
    )
    # Whether the server is about to stop; set by what runs the application.
    app.state.stopping = lambda: False
    app.openapi = documented(app)  # type: ignore[method-assign]
    errors.install(app, _form_of)
    app.add_middleware(Memory, most_bytes=settings.memory_bytes)
    # What comes first is told first: spans end before metrics and log are written.
    app.add_middleware(Accounting, bug=errors.bug, keepers=(Tracing(), measured, RequestLog()))
    embedder = Embedder(client, settings)
    if embedder.cache is not None:
        measured.watch_cache(embedder.cache)
    app.include_router(embedding.router(embedder, settings))
    app.include_router(openai.router(embedder, settings))
    app.include_router(tei.router(embedder, settings))
    app.include_router(health.router(client, settings))
    app.include_router(metrics.router(measured))
    app.include_router(page.router())
    app.state.watch = watch(app.state.form_of, admission, affordable(settings.bounds), measured.refusal)
    return app


def _form_of(path: str) -> errors.Form:
    """Whose words a failure at this path takes."""
    if path.startswith("/v1/"):
        return openai.form
    return tei.form if path in tei.PATHS else errors.own_form
