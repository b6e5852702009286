"""`POST /embedding`: {"texts": ["…"], "max_length": 128, "normalize": false} -> {"embeddings": [[…]]}, order kept.

With another Accept header, the vectors in binary; see `answer`.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from client.rest.answer import BINARY_TOO, negotiated
from client.rest.body import read_json
from client.rest.embedder import Embedder
from client.rest.errors import responses
from client.rest.schemas import EmbeddingAnswer, EmbeddingRequest, checked, request_body
from client.rest.settings import Settings

__all__ = ["router"]


def router(embedder: Embedder, settings: Settings) -> APIRouter:
    """The route, in front of the embedder."""
    result = APIRouter(tags=["embeddings"])

    # The body is read here and not by FastAPI, so that it is bounded while it comes in, and every mistake is told in
    # our words; so the page is told what it looks like.
    @result.post(
        "/embedding",
        summary="Embed texts",
        response_model=EmbeddingAnswer,
        responses={200: BINARY_TOO, **responses(400, 413, 415, 422, 429, 500, 503, 504)},
        openapi_extra=request_body(EmbeddingRequest),
    )
    async def embedding(request: Request) -> Response:
        """Any number of texts up to the limit in GET /info; one vector each, in order."""
        body = checked(EmbeddingRequest, await read_json(request, settings.max_body_bytes))
        max_length = body.max_length
        if "max_length" not in body.model_fields_set:
            # A model may have fewer positions than the default asks for.
            max_length = min(max_length, (await embedder.model()).max_positions)
        answer = await embedder.embed(request, body.texts, max_length, body.normalize)
        return negotiated(request, answer.vectors, b'{"embeddings":[', b"]}")

    return result
