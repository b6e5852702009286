"""`GET /health/live`, `GET /health/ready`, `GET /info`, and TEI's `GET /health`: what operators and machines ask.

ready   a text is embedded now, outside the limits on requests; or Triton is busy with others, which is no failure
live    nothing speaks for a certain death; and if something does, an embedding now must prove the contrary
"""

from __future__ import annotations

import logging

from fastapi import APIRouter, Request, Response

from client import AsyncEmbeddingClient, DeadlineExceeded, EmbeddingError, Overloaded, Unavailable, __version__
from client._pulse import Pulse
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

__all__ = ["certain_death", "router"]

# TEI's names of precisions.
_DTYPES = {"fp32": "float32", "fp16": "float16"}

_log = logging.getLogger(__name__)


def router(client: AsyncEmbeddingClient, settings: Settings) -> APIRouter:
    """The routes, in front of a client."""
    result = APIRouter(tags=["operations"])

    @result.get(
        "/health/live",
        summary="Whether this service may go on without a restart",
        response_model=StatusAnswer,
        responses=responses(503),
    )
    async def live(request: Request) -> StatusAnswer | Response:
        """Fails only if Triton is certainly dead: gone, or without any answer to what waits, for `dead_after_s`.

        Overload is no death, nor is a Triton that has not started yet.
        """
        if (death := certain_death(client.pulse, settings.dead_after_s)) is None:
            return StatusAnswer(status="live")
        # What was noticed may be long ago.
        try:
            await client.check(settings.ready_timeout_s)
        except (Unavailable, DeadlineExceeded):
            _log.error("certainly dead: %s", death)
            return answer(request, Failure(503, "dead", death))
        except EmbeddingError:
            pass  # an answer, too
        return StatusAnswer(status="live")

    @result.get(
        "/health/ready", summary="Whether texts can be embedded", response_model=StatusAnswer, responses=responses(503)
    )
    async def ready(request: Request) -> StatusAnswer | Response:
        """Embeds a text, outside the limits on requests; shedding load and being busy count as ready."""
        if request.app.state.stopping():
            return answer(request, Failure(503, "stopping", "the service is about to stop"))
        try:
            await client.check(settings.ready_timeout_s)
        except Overloaded:
            return StatusAnswer(status="overloaded")
        except DeadlineExceeded as error:
            if client.pulse.answered_within(settings.ready_timeout_s):
                return StatusAnswer(status="busy")
            return _not_ready(request, error)
        except EmbeddingError as error:
            return _not_ready(request, error)
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


def certain_death(pulse: Pulse, after_s: float) -> str | None:
    """What speaks for Triton's certain death, if anything does."""
    if pulse.answered and pulse.away_s > after_s:
        return f"Triton is away for {pulse.away_s:.0f} s: {pulse.words}"
    if pulse.silent_s > after_s:
        return f"requests have waited for {pulse.silent_s:.0f} s without any answer of Triton"
    return None


def _not_ready(request: Request, error: EmbeddingError) -> Response:
    _log.warning("not ready: %s: %s", type(error).__name__, error)
    # In its own words, which operators need.
    return answer(request, Failure(503, failure_of(error).type, str(error)))
