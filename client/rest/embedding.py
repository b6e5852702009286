"""`POST /embedding`: {"texts": ["…"], "max_length": 128, "normalize": false} -> {"embeddings": [[…]]}, order kept."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from client import AsyncEmbeddingClient, InvalidInput
from client._wire import encode
from client.rest.answer import vectors_answer
from client.rest.body import read_json, unless_disconnected
from client.rest.errors import responses
from client.rest.schemas import EmbeddingAnswer, EmbeddingRequest, checked
from client.rest.settings import Settings

__all__ = ["router"]


def router(client: AsyncEmbeddingClient, settings: Settings) -> APIRouter:
    """The route, in front of a client."""
    result = APIRouter(tags=["embeddings"])

    # The body is read here and not by FastAPI, so that it is bounded while it comes in, and every mistake is told in
    # our words; so the page is told what it looks like.
    @result.post(
        "/embedding",
        summary="Embed texts",
        response_model=EmbeddingAnswer,
        responses=responses(400, 413, 415, 422, 429, 500, 503, 504),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": EmbeddingRequest.model_json_schema()}},
            }
        },
    )
    async def embedding(request: Request) -> Response:
        """Any number of texts up to the limit in GET /info; one vector each, in order."""
        body = checked(EmbeddingRequest, await read_json(request, settings.max_body_bytes))
        if len(body.texts) > settings.max_texts:
            raise InvalidInput(f"texts: wanted at most {settings.max_texts}, got {len(body.texts)}")
        max_length = body.max_length
        if "max_length" not in body.model_fields_set:
            # A model may have fewer positions than the default asks for.
            max_length = min(max_length, (await client.info()).max_positions)
        work = client.embed_encoded(encode(body.texts), max_length, body.normalize)
        if len(body.texts) > settings.texts_per_piece:
            embeddings = await unless_disconnected(request, work)
        else:
            embeddings = await work
        return vectors_answer(embeddings.vectors)

    return result
