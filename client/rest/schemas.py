"""What travels as JSON: the bodies of requests and answers, as the OpenAPI page shows them and as they are checked."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, ValidationError, WithJsonSchema
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
    "OneOrMore",
    "ServiceLimits",
    "StatusAnswer",
    "Versions",
    "checked",
    "request_body",
]

Body = TypeVar("Body", bound=BaseModel)

DEFAULT_MAX_LENGTH = 128
# pydantic finds all mistakes before the first of them is told: two million unknown fields, 26 MB, took 8 s and 1.9 GB.
_MOST_FIELDS = 1_000

# A text, or a list of them, none of them empty: as the interfaces of others have it. Here it is a list always.
OneOrMore = Annotated[
    list[str],
    FailFast(),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
            ]
        }
    ),
]

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
    text_characters: int = Field(description="Of one text.", examples=[2097152])
    body_bytes: int = Field(examples=[33554432])
    max_length: MaxLength


class Versions(BaseModel):
    """What runs."""

    service: str
    triton: str


class EmbeddingModel(BaseModel):
    """What TEI tells of a model that embeds."""

    pooling: str = Field(examples=["mean"])


class InfoAnswer(BaseModel):
    """What this service serves, in our names and in TEI's."""

    model_config = ConfigDict(protected_namespaces=())

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
    prompts: dict[str, str] = Field(description="Texts of the model's authors, by the name that `prompt_name` takes.")
    limits: ServiceLimits
    versions: Versions
    model_id: str = Field(description="From here on the names of TEI: `model`.")
    model_sha: str | None = Field(description="`revision`.")
    served_model_name: str
    model_dtype: str = Field(examples=["float32"])
    model_type: dict[Literal["embedding"], EmbeddingModel]
    max_concurrent_requests: int = Field(description="Texts that are computed at a time.", examples=[256])
    max_input_length: int = Field(description="Tokens that are kept of a text.", examples=[256])
    max_batch_tokens: int = Field(description="Tokens of the largest request to Triton.", examples=[8192])
    max_batch_requests: int = Field(description="Texts of the largest request to Triton.", examples=[32])
    max_client_batch_size: int = Field(description="`limits.texts`.", examples=[10000])
    auto_truncate: bool = Field(description="Whether texts that are too long are cut where a request does not say.")
    tokenization_workers: int = Field(description="Processes that tokenize.", examples=[1])
    version: str = Field(description="`versions.service`.")


def request_body(schema: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI page's entry for a body that `checked` checks."""
    content = {"application/json": {"schema": schema.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def checked(schema: type[Body], content: object) -> Body:
    """Check parsed JSON against a schema.

    Raises:
        InvalidInput: names the first place that is wrong, what was wanted there and what came, never a whole text.
    """
    if isinstance(content, dict) and len(content) > _MOST_FIELDS:
        raise InvalidInput(f"body: wanted at most {_MOST_FIELDS} fields, got {len(content)}")
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidInput(_explained(first, schema), field=str(next(iter(first["loc"]), ""))) from error


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
    # Of a choice, the values; of ours, our own words.
    wanted = _WANTED.get(error["type"]) or error.get("ctx", {}).get("expected") or error["msg"]
    return f"{place}: wanted {wanted}, got {_shown(error['input'])}"


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
