"""What travels as JSON: the bodies of requests and answers, as the OpenAPI page shows them and as they are checked."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError
from pydantic.config import JsonDict
from pydantic_core import ErrorDetails

from client.errors import InvalidInput

__all__ = [
    "DEFAULT_MAX_LENGTH",
    "EmbeddingAnswer",
    "EmbeddingRequest",
    "ErrorAnswer",
    "InfoAnswer",
    "MaxLength",
    "ServiceLimits",
    "StatusAnswer",
    "Versions",
    "checked",
]

Body = TypeVar("Body", bound=BaseModel)

DEFAULT_MAX_LENGTH = 128
EXAMPLE: JsonDict = {
    "texts": ["The cat sits outside", "A man is playing guitar", "The new movie is awesome"],
    "max_length": DEFAULT_MAX_LENGTH,
}


class EmbeddingRequest(BaseModel):
    """Texts to embed."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    texts: Annotated[list[str], FailFast(), Field(min_length=1)] = Field(
        description="The texts, in the order in which their vectors are wanted. Any length: longer ones are cut."
    )
    max_length: int = Field(
        DEFAULT_MAX_LENGTH,
        description="Tokens kept of each text, the two special ones included; at most the model's positions, "
        "see GET /info.",
        json_schema_extra={"minimum": 2},
    )
    normalize: bool = Field(False, description="Scale each vector to length 1.")


class EmbeddingAnswer(BaseModel):
    """One vector per text, in the order of the texts."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"embeddings": [[0.0177, -0.0266, 0.0417]]}]})

    embeddings: list[list[float]]


class ErrorDetail(BaseModel):
    """What went wrong."""

    type: str = Field(description="A name for programs.", examples=["invalid_input"])
    message: str = Field(
        description="What was wanted and what came.", examples=["texts[3]: wanted a string, got the integer 7"]
    )


class ErrorAnswer(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


class StatusAnswer(BaseModel):
    """The body of a health check that passed."""

    status: str = Field(examples=["ready"])


class MaxLength(BaseModel):
    """Bounds of `max_length`, in tokens."""

    minimum: int = Field(examples=[2])
    maximum: int = Field(description="The model's positions.", examples=[512])
    default: int = Field(description="What POST /embedding uses when none is given.", examples=[128])
    model: int = Field(description="The model's own limit.", examples=[256])


class ServiceLimits(BaseModel):
    """What one request may hold."""

    texts: int = Field(examples=[10000])
    body_bytes: int = Field(examples=[33554432])
    max_length: MaxLength


class Versions(BaseModel):
    """What runs."""

    service: str
    triton: str


class InfoAnswer(BaseModel):
    """What this service serves."""

    model: str = Field(examples=["sentence-transformers/all-MiniLM-L6-v2"])
    revision: str | None
    digest: str = Field(description="Identifies all files of the model; vectors of two digests do not mix.")
    license: str | None
    architecture: str = Field(examples=["BertModel"])
    precision: str = Field(examples=["fp32"])
    graph: str = Field(examples=["packed"])
    dimensions: int = Field(examples=[384])
    pooling: str = Field(examples=["mean"])
    normalize: bool = Field(description="Whether the model's own pipeline scales vectors to length 1.")
    limits: ServiceLimits
    versions: Versions


def checked(schema: type[Body], content: object) -> Body:
    """Check parsed JSON against a schema.

    Raises:
        InvalidInput: names the first place that is wrong, what was wanted there and what came, never a whole text.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise InvalidInput(_explained(first, schema)) from error


_WANTED = {
    "string_type": "a string",
    "list_type": "a list of strings",
    "int_type": "an integer",
    "bool_type": "true or false",
    "too_short": "at least one text",
    "model_type": "a JSON object",
}


def _explained(error: ErrorDetails, schema: type[BaseModel]) -> str:
    place = _place(error["loc"])
    known = ", ".join(schema.model_fields)
    if error["type"] == "missing":
        return f"{place}: wanted this field, got none; the fields are {known}"
    if error["type"] == "extra_forbidden":
        return f"{place}: wanted no other fields than {known}, got this one"
    return f"{place}: wanted {_WANTED.get(error['type'], error['msg'])}, got {_shown(error['input'])}"


def _place(location: tuple[int | str, ...]) -> str:
    """`("texts", 3)` -> `texts[3]`; a name that the caller chose is cut."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part[:40]}" for part in location]
    return "".join(parts).removeprefix(".") or "body"


def _shown(value: Any) -> str:
    """A JSON value by its kind; only numbers, which say what is wrong with them, in full."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return f"the integer {value}"
        case float():
            return f"the number {value}"
        case str():
            return "a string"
        case list():
            return "a list" if value else "an empty list"
        case _:
            return "an object"
