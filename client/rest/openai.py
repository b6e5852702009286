"""OpenAI's interface: `POST /v1/embeddings`, `GET /v1/models`.

    {"input": "…" or ["…"], "model": "any"}  ->  {"data": [{"embedding": […] or "base64"}], "usage": {…}, …}

One model is served, so every name is taken for it, and the answer says which it was. Vectors have length 1; texts are
cut at the model's own limit. Fields that we do not know are left aside, as clients send some of other services.
"""

from __future__ import annotations

import binascii
import time
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from client._manifest import Manifest
from client.rest.answer import vectors_answer
from client.rest.body import read_json
from client.rest.embedder import Embedder, TooLong
from client.rest.errors import EmptyInput, Failure, UnknownModel, responses
from client.rest.schemas import OneOrMore, checked, request_body
from client.rest.settings import Settings

__all__ = ["form", "router"]


def _no_token_ids(value: object) -> object:
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, int | list) and not isinstance(first, bool):
        raise PydanticCustomError(
            "token_ids",
            "texts (token ids are of another model's tokenizer: "
            "LangChain's OpenAIEmbeddings needs check_embedding_ctx_length=False)",
        )
    return value


class EmbeddingsRequest(BaseModel):
    """Texts to embed."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [{"input": ["The cat sits outside", "A man is playing guitar"], "model": "any"}]
        },
    )

    input: Annotated[OneOrMore, BeforeValidator(_no_token_ids)] = Field(description="A text, or several.")
    model: str | None = Field(None, description="Any name: the one model is used whatever it says.")
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="Numbers (the default), or float32, little-endian, in base64."
    )
    dimensions: int | None = Field(
        None,
        description="Keep so many leading components, scaled to length 1 again; at most the model's.",
        json_schema_extra={"minimum": 1},
    )
    user: str | None = Field(None, description="Not used.")


class EmbeddingItem(BaseModel):
    """A text's vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens that the model saw, special tokens included."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """One vector per text, in the order of the texts."""

    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str = Field(description="The model that made the vectors, whatever was asked for.")
    usage: Usage


class ModelItem(BaseModel):
    """The model that is served."""

    id: str = Field(examples=["sentence-transformers/all-MiniLM-L6-v2"])
    object: Literal["model"]
    created: int = Field(description="When this process started, in seconds since 1970.")
    owned_by: str = Field(examples=["sentence-transformers"])


class ModelsAnswer(BaseModel):
    """All models: one."""

    object: Literal["list"]
    data: list[ModelItem]


class OpenAIErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(examples=["input[3]: wanted a string, got the integer 7"])
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(description="The field that is wrong.", examples=["input"])
    code: str | None


class OpenAIError(BaseModel):
    """The body of every answer that is not a success."""

    error: OpenAIErrorDetail


# Names of models have a slash at most.
_MODEL_NAME: dict[str, Any] = {
    "type": "string",
    "pattern": r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$",
    "examples": ["sentence-transformers/all-MiniLM-L6-v2"],
}

# OpenAI's names; those that have none of their own there are null.
_TYPES = {429: "requests"}
_CODES = {"unknown_model": "model_not_found", "unauthorized": "invalid_api_key", "overloaded": "rate_limit_exceeded"}


def form(failure: Failure) -> tuple[int, object]:
    """OpenAIError; mistakes in the request are 400 there, and not 422."""
    status = 400 if failure.status == 422 else failure.status
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    code = _CODES.get(failure.type)
    return status, {"error": {"message": failure.message, "type": kind, "param": failure.field or None, "code": code}}


def router(embedder: Embedder, settings: Settings) -> APIRouter:
    """The routes, in front of the embedder."""
    result = APIRouter(prefix="/v1", tags=["OpenAI"])
    created = int(time.time())

    @result.post(
        "/embeddings",
        summary="Embed texts, as OpenAI does",
        response_model=EmbeddingsAnswer,
        responses=responses(400, 413, 415, 429, 500, 503, 504, model=OpenAIError),
        openapi_extra=request_body(EmbeddingsRequest),
    )
    async def embeddings(request: Request) -> Response:
        """Vectors of length 1. Texts are cut at the model's own limit; see GET /info."""
        body = checked(EmbeddingsRequest, await read_json(request, settings.max_body_bytes))
        if not all(body.input):
            raise EmptyInput(f"input[{body.input.index('')}]: wanted a text, got an empty string", field="input")
        if not body.input:
            raise EmptyInput("input: wanted at least one text, got an empty list", field="input")
        too_long: TooLong = "cut_end" if settings.auto_truncate else "refuse"
        answer = await embedder.embed(
            request, body.input, None, True, "input", dimensions=body.dimensions, too_long=too_long
        )
        tokens = int(answer.tokens.sum())
        end = orjson.dumps(
            {
                "model": (await embedder.model()).model,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )
        rows = _base64_rows if body.encoding_format == "base64" else _float_rows
        return vectors_answer(answer.vectors, rows, b'{"object":"list","data":[', b"]," + end[1:])

    @result.get(
        "/models",
        summary="The model",
        response_model=ModelsAnswer,
        responses=responses(500, 503, 504, model=OpenAIError),
    )
    async def models() -> dict[str, Any]:
        """The one that is served."""
        return {"object": "list", "data": [_item(await embedder.model(), created)]}

    @result.get(
        "/models/{model:path}",
        summary="The model by its name",
        response_model=ModelItem,
        responses=responses(404, 500, 503, 504, model=OpenAIError),
        # Told here, because FastAPI would promise a 422 of its own for a parameter.
        openapi_extra={
            "parameters": [{"name": "model", "in": "path", "required": True, "schema": _MODEL_NAME}],
        },
    )
    async def model(request: Request) -> dict[str, Any]:
        """404 for every name but that of GET /v1/models."""
        served = await embedder.model()
        if request.path_params["model"] != served.model:
            raise UnknownModel(f"model: wanted {served.model}, which is served here, got another name", field="model")
        return _item(served, created)

    return result


def _item(manifest: Manifest, created: int) -> dict[str, Any]:
    owner, slash, _ = manifest.model.partition("/")
    return {"id": manifest.model, "object": "model", "created": created, "owned_by": owner if slash else "local"}


def _float_rows(vectors: NDArray[np.float32], first: int) -> bytes:
    rows = [orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY) for vector in vectors]
    return b",".join(_row(index, row) for index, row in enumerate(rows, first))


def _base64_rows(vectors: NDArray[np.float32], first: int) -> bytes:
    rows = [b'"%b"' % binascii.b2a_base64(vector, newline=False) for vector in np.ascontiguousarray(vectors, "<f4")]
    return b",".join(_row(index, row) for index, row in enumerate(rows, first))


def _row(index: int, embedding: bytes) -> bytes:
    return b'{"object":"embedding","index":%d,"embedding":%b}' % (index, embedding)
