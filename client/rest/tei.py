"""The interface of Hugging Face's Text Embeddings Inference (TEI): `POST /embed`, `POST /` and `POST /tokenize`.

    {"inputs": "…" or ["…"]}  ->  [[…]]

What it does follows TEI 1.9: a text that is too long is cut unless `truncate` is false, mistakes are 422, and fields
that are not known are left aside. TEI's `GET /health` and its names in `GET /info` are beside ours, in `health`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, Literal

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from client import InvalidInput
from client._manifest import Manifest
from client.rest.answer import BINARY_TOO, JSON, negotiated
from client.rest.body import read_json
from client.rest.embedder import Embedder, TooLong
from client.rest.errors import EmptyInput, Failure, responses
from client.rest.limits import check_texts
from client.rest.schemas import OneOrMore, checked, request_body
from client.rest.settings import Settings
from client.rest.tokens import check_characters, pieces

__all__ = ["PATHS", "TeiError", "form", "router"]

PATHS = frozenset({"/", "/embed", "/tokenize", "/health"})

EXAMPLE = "What is Deep Learning?"


class EmbedRequest(BaseModel):
    """Texts to embed."""

    model_config = ConfigDict(strict=True, json_schema_extra={"examples": [{"inputs": EXAMPLE}]})

    inputs: OneOrMore = Field(description="A text, or several.")
    normalize: bool | None = Field(None, description="Scale each vector to length 1: true, if nothing is said.")
    truncate: bool | None = Field(
        None, description="Whether to cut texts that are too long or to refuse them; see auto_truncate of GET /info."
    )
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = Field(
        None, description="Which end is cut: the right one, if nothing is said."
    )
    prompt_name: str | None = Field(None, description="Put this prompt of the model before each text; see GET /info.")
    dimensions: int | None = Field(
        None,
        description="Keep so many leading components; at most the model's.",
        json_schema_extra={"minimum": 1},
    )


class TokenizeRequest(BaseModel):
    """Texts to tokenize."""

    model_config = ConfigDict(strict=True, json_schema_extra={"examples": [{"inputs": EXAMPLE}]})

    inputs: OneOrMore = Field(description="A text, or several.")
    add_special_tokens: bool | None = Field(
        None, description="Add the tokens that the model needs around a text: true, if nothing is said."
    )
    prompt_name: str | None = Field(None, description="Put this prompt of the model before each text; see GET /info.")


class SimpleToken(BaseModel):
    """A piece of a text, in characters from `start` to `stop`; null for special tokens."""

    id: int = Field(examples=[2784])
    text: str = Field(examples=["Deep"])
    special: bool
    start: int | None
    stop: int | None


class TeiError(BaseModel):
    """The body of every answer that is not a success."""

    error: str = Field(examples=["inputs[3]: wanted a string, got the integer 7"])
    error_type: Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


def form(failure: Failure) -> tuple[int, object]:
    """TeiError; a model that failed is 424 there."""
    status = 424 if failure.status == 500 else failure.status
    if failure.type == "empty_input":
        kind = "Empty"
    elif status in {429, 503}:
        kind = "Overloaded" if status == 429 else "Unhealthy"
    else:
        kind = "Backend" if status == 424 or status >= 500 else "Validation"
    return status, {"error": failure.message, "error_type": kind}


def router(embedder: Embedder, settings: Settings) -> APIRouter:
    """The routes, in front of the embedder."""
    result = APIRouter(tags=["Text Embeddings Inference"])
    failures = responses(400, 413, 415, 422, 424, 429, 503, 504, model=TeiError)
    embed_route: dict[str, Any] = {
        "response_model": list[list[float]],
        "responses": {200: BINARY_TOO, **failures},
        "openapi_extra": request_body(EmbedRequest),
    }

    async def embed(request: Request) -> Response:
        """One vector for each text, of length 1 unless told otherwise; a list also for a single text."""
        body = checked(EmbedRequest, await read_json(request, settings.max_body_bytes))
        texts = _prompted(body.inputs, body.prompt_name, await embedder.model())
        answer = await embedder.embed(
            request,
            texts,
            None,
            body.normalize is not False,
            "inputs",
            dimensions=body.dimensions,
            too_long=_too_long(body, settings.auto_truncate),
        )
        return negotiated(request, answer.vectors, b"[", b"]")

    result.add_api_route("/embed", embed, methods=["POST"], summary="Embed texts, as TEI does", **embed_route)
    result.add_api_route("/", embed, methods=["POST"], summary="The same as POST /embed", **embed_route)

    @result.post(
        "/tokenize",
        summary="Tokenize texts, as TEI does",
        response_model=list[list[SimpleToken]],
        responses=failures,
        openapi_extra=request_body(TokenizeRequest),
    )
    async def tokenize(request: Request) -> Response:
        """The tokens of each text, uncut, by the served model's tokenizer."""
        body = checked(TokenizeRequest, await read_json(request, settings.max_body_bytes))
        manifest = await embedder.model()
        texts = _prompted(body.inputs, body.prompt_name, manifest)
        check_texts(texts, settings, "inputs")
        check_characters(texts, manifest.max_sequence_length, "inputs")
        tokenizer = await embedder.tokenizer.load()
        return StreamingResponse(
            _tokens(embedder, tokenizer, texts, body.add_special_tokens is not False), media_type=JSON
        )

    return result


def _prompted(texts: Sequence[str], name: str | None, manifest: Manifest) -> Sequence[str]:
    """The texts behind the prompt of that name, none of them empty before."""
    if not texts:
        raise EmptyInput("inputs: wanted at least one text, got an empty list", field="inputs")
    if not all(texts):
        raise EmptyInput(f"inputs[{texts.index('')}]: wanted a text, got an empty string", field="inputs")
    if name is None:
        return texts
    if name not in manifest.prompts:
        known = f"one of {', '.join(manifest.prompts)}" if manifest.prompts else "none, as the model has no prompts"
        raise InvalidInput(f"prompt_name: wanted {known}, got another name", field="prompt_name")
    prompt = manifest.prompts[name]
    return [prompt + text for text in texts]


def _too_long(body: EmbedRequest, auto_truncate: bool) -> TooLong:
    if not (auto_truncate if body.truncate is None else body.truncate):
        return "refuse"
    return "cut_start" if body.truncation_direction in {"left", "Left"} else "cut_end"


async def _tokens(
    embedder: Embedder, tokenizer: Tokenizer, texts: Sequence[str], special: bool
) -> AsyncIterator[bytes]:
    """`[[{…}, …], …]`, as many texts at a time as a turn takes."""
    start = b"["
    async for turn in embedder.tokenizer.each(tokenizer, texts, partial(pieces, special=special)):
        yield start + orjson.dumps(turn)[1:-1]
        start = b","
    yield b"]"
