"""The application: one client, and the routers in front of it. Another interface is another router here."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from client import AsyncEmbeddingClient, Retries, __version__
from client.rest import embedding, errors, health
from client.rest.account import Accounting
from client.rest.embedder import Embedder
from client.rest.settings import Settings

__all__ = ["create_app"]


def create_app(settings: Settings) -> FastAPI:
    """Make the application. It starts without Triton, and finds it when it is there."""
    # Once only: at overload another attempt makes it worse. The caller hears it at once, and knows when to come back.
    client = AsyncEmbeddingClient(
        settings.triton_url,
        timeout_s=settings.triton_timeout_s,
        limits=settings.limits,
        retries=Retries(attempts=1),
        ensemble=settings.ensemble,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    app = FastAPI(
        title="Embedding service",
        description="Texts in, vectors out. Errors of every route have the body of ErrorAnswer.",
        version=__version__,
        lifespan=lifespan,
    )
    errors.install(app)
    app.add_middleware(Accounting, bug=errors.bug)
    embedder = Embedder(client, settings)
    app.include_router(embedding.router(embedder, settings))
    app.include_router(health.router(client, settings))
    return app
