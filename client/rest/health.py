"""`GET /health/live`, `GET /health/ready`, `GET /info`, and TEI's `GET /health`: what operators and machines ask."""

from __future__ import annotations

import logging

from fastapi import APIRouter, Request, Response

from client import AsyncEmbeddingClient, EmbeddingError, Overloaded, __version__
from client._wire import MIN_LENGTH
from client.rest.errors import Failure, answer, failure_of, responses
from client.rest.schemas import (
    DEFAULT_MAX_LENGTH,
    EmbeddingModel,
    InfoAnswer,
    MaxLength,
    ServiceLimits,
    StatusAnswer,
    Versions,
)
from client.rest.settings import Settings
from client.rest.tei import TeiError

__all__ = ["router"]

# TEI's names of precisions.
_DTYPES = {"fp32": "float32", "fp16": "float16"}

_log = logging.getLogger(__name__)


def router(client: AsyncEmbeddingClient, settings: Settings) -> APIRouter:
    """The routes, in front of a client."""
    result = APIRouter(tags=["operations"])

    @result.get("/health/live", summary="Whether this process answers")
    async def live() -> StatusAnswer:
        """Passes as long as the shim runs; says nothing about the model."""
        return StatusAnswer(status="live")

    @result.get(
        "/health/ready", summary="Whether texts can be embedded", response_model=StatusAnswer, responses=responses(503)
    )
    async def ready(request: Request) -> StatusAnswer | Response:
        """Embeds a text, outside the limits on requests; shedding load counts as ready."""
        try:
            await client.check(settings.ready_timeout_s)
        except Overloaded:
            return StatusAnswer(status="overloaded")
        except EmbeddingError as error:
            _log.warning("not ready: %s: %s", type(error).__name__, error)
            # In its own words, which operators need.
            return answer(request, Failure(503, failure_of(error).type, str(error)))
        return StatusAnswer(status="ready")

    @result.get(
        "/health",
        summary="Whether texts can be embedded, as TEI tells it",
        response_class=Response,
        responses={200: {"description": "They can."}, **responses(503, model=TeiError)},
    )
    async def health(request: Request) -> Response:
        """The same as GET /health/ready, without a body when all is well."""
        found = await ready(request)
        return found if isinstance(found, Response) else Response()

    @result.get("/info", summary="The model and the limits", responses=responses(503, 504))
    async def info() -> InfoAnswer:
        """Asks Triton each time, so that it tells of the model that is served now."""
        manifest = await client.info(refresh=True)
        max_length = MaxLength(
            minimum=MIN_LENGTH,
            maximum=manifest.max_positions,
            default=min(DEFAULT_MAX_LENGTH, manifest.max_positions),
            model=manifest.max_sequence_length,
        )
        return InfoAnswer(
            model=manifest.model,
            revision=manifest.revision,
            digest=manifest.digest,
            license=manifest.license,
            architecture=manifest.architecture,
            precision=manifest.precision,
            graph=manifest.graph,
            dimensions=manifest.hidden_size,
            pooling=manifest.pooling,
            normalize=manifest.normalize,
            prompts=dict(manifest.prompts),
            limits=ServiceLimits(
                texts=settings.max_texts,
                text_characters=settings.max_text_characters,
                body_bytes=settings.max_body_bytes,
                max_length=max_length,
            ),
            versions=Versions(service=__version__, triton=await client.server_version()),
            model_id=manifest.model,
            model_sha=manifest.revision,
            served_model_name=manifest.model,
            model_dtype=_DTYPES.get(manifest.precision, manifest.precision),
            model_type={"embedding": EmbeddingModel(pooling=manifest.pooling)},
            max_concurrent_requests=settings.burst_requests,
            max_input_length=manifest.max_sequence_length,
            max_batch_tokens=settings.texts_per_piece * manifest.max_sequence_length,
            max_batch_requests=settings.texts_per_piece,
            max_client_batch_size=settings.max_texts,
            auto_truncate=settings.auto_truncate,
            tokenization_workers=1,
            version=__version__,
        )

    return result
