"""OpenAI's interface, through OpenAI's own client and LangChain's, against the real service."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest
from langchain_openai import OpenAIEmbeddings
from pydantic import SecretStr

from client import DeadlineExceeded, EmbeddingClient, InvalidInput, Overloaded, ServerError, Unavailable
from client.rest import Settings, create_app
from tests.support.service import Service, free_ports
from tests.support.shim import running

pytestmark = pytest.mark.triton

TEXTS = ["The cat sits outside", "A man is playing guitar", "", "word " * 400]
MODEL = "text-embedding-3-small"


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[openai.OpenAI]:
    with connected(service.rest_url) as made:
        yield made


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.rest_url, timeout=120) as made:
        yield made


def connected(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [text for text in TEXTS if text]


@pytest.fixture(scope="module")
def raw(service: Service, texts: list[str]) -> np.ndarray:
    """(n, hidden): not normalised, cut at the model's own limit."""
    with EmbeddingClient(service.grpc_url) as direct:
        return direct.embed(texts)


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def assert_same(found: object, expected: np.ndarray) -> None:
    np.testing.assert_allclose(np.array(found, np.float32), expected, rtol=0, atol=1e-5)


def test_a_list(client: openai.OpenAI, texts: list[str], raw: np.ndarray) -> None:
    # The client asks for base64 by itself.
    answer = client.embeddings.create(model=MODEL, input=texts)
    assert_same([item.embedding for item in answer.data], unit(raw))
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert {item.object for item in answer.data} == {"embedding"}
    assert (answer.object, answer.model) == ("list", "sentence-transformers/all-MiniLM-L6-v2")


def test_usage_is_what_the_model_saw(client: openai.OpenAI, service: Service, texts: list[str]) -> None:
    answer = client.embeddings.create(model=MODEL, input=texts)
    with EmbeddingClient(service.grpc_url) as direct:
        tokens = int(direct.embed_with_tokens(texts).tokens.sum())
    assert tokens == 6 + 7 + 256
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (tokens, tokens)


def test_a_string(client: openai.OpenAI, texts: list[str], raw: np.ndarray) -> None:
    answer = client.embeddings.create(model=MODEL, input=texts[0], user="somebody", encoding_format="float")
    assert_same([item.embedding for item in answer.data], unit(raw[:1]))


def test_asynchronously(service: Service, texts: list[str], raw: np.ndarray) -> None:
    async def ask() -> list[list[float]]:
        async with openai.AsyncOpenAI(base_url=f"{service.rest_url}/v1", api_key="none", max_retries=0) as client:
            calls = [client.embeddings.create(model=MODEL, input=text) for text in texts]
            return [answer.data[0].embedding for answer in await asyncio.gather(*calls)]

    assert_same(asyncio.run(ask()), unit(raw))


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_dimensions_are_leading_ones_renormalised(
    client: openai.OpenAI, texts: list[str], raw: np.ndarray, encoding_format: str
) -> None:
    for dimensions in (1, 64, 384):
        answer = client.embeddings.create(
            model=MODEL,
            input=texts,
            dimensions=dimensions,
            encoding_format=encoding_format,  # type: ignore[arg-type]
        )
        vectors = [item.embedding for item in answer.data]
        found = np.array(
            [np.frombuffer(base64.b64decode(v), "<f4") if isinstance(v, str) else v for v in vectors], np.float32
        )
        assert_same(found, unit(raw[:, :dimensions]))


def test_base64_is_little_endian_float32(http: httpx.Client, texts: list[str], raw: np.ndarray) -> None:
    body = {"model": MODEL, "input": texts, "encoding_format": "base64"}
    items = http.post("/v1/embeddings", json=body).json()["data"]
    assert_same([np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in items], unit(raw))


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_many_texts_in_order(client: openai.OpenAI, service: Service, encoding_format: str) -> None:
    many = [f"text {number}" for number in range(700)]
    answer = client.embeddings.create(model=MODEL, input=many, encoding_format=encoding_format)  # type: ignore[arg-type]
    assert [item.index for item in answer.data] == list(range(700))
    vectors = [item.embedding for item in answer.data]
    if encoding_format == "base64":
        vectors = [np.frombuffer(base64.b64decode(v), "<f4").tolist() for v in vectors]  # type: ignore[arg-type]
    with EmbeddingClient(service.grpc_url) as direct:
        assert_same(vectors, direct.embed(many, normalize=True))


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == "sentence-transformers/all-MiniLM-L6-v2"
    assert (model.object, model.owned_by) == ("model", "sentence-transformers")
    assert client.models.retrieve(model.id) == model
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve(MODEL)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_langchain(service: Service, texts: list[str], raw: np.ndarray) -> None:
    def embeddings(shared: httpx.AsyncClient | None = None) -> OpenAIEmbeddings:
        return OpenAIEmbeddings(
            model=MODEL,
            base_url=f"{service.rest_url}/v1",
            api_key=SecretStr("none"),
            check_embedding_ctx_length=False,
            max_retries=0,
            http_async_client=shared,
        )

    async def asynchronously() -> list[list[float]]:
        async with httpx.AsyncClient() as shared:  # LangChain never closes one that it made
            return await embeddings(shared).aembed_documents(texts)

    assert_same(embeddings().embed_documents(texts), unit(raw))
    assert_same([embeddings().embed_query(texts[1])], unit(raw[1:2]))
    assert_same(asyncio.run(asynchronously()), unit(raw))


@pytest.mark.parametrize("ids", [[1, 2, 3], [[1, 2], [3]]])
def test_token_ids_are_refused_with_langchains_remedy(client: openai.OpenAI, ids: list[int]) -> None:
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False") as caught:
        client.embeddings.create(model=MODEL, input=ids)
    assert (caught.value.param, caught.value.type) == ("input", "invalid_request_error")


def test_extra_and_null_fields_are_left_aside(http: httpx.Client) -> None:
    body = {"input": "a", "model": None, "encoding_format": None, "dimensions": None, "user": None, "input_type": "x"}
    answer = http.post("/v1/embeddings", json=body)
    assert answer.status_code == 200
    assert isinstance(answer.json()["data"][0]["embedding"], list)


@pytest.mark.parametrize(
    ("cause", "expected", "status", "kind", "code"),
    [
        (Overloaded("full"), openai.RateLimitError, 429, "requests", "rate_limit_exceeded"),
        (InvalidInput("wrong"), openai.BadRequestError, 400, "invalid_request_error", None),
        (Unavailable("away"), openai.InternalServerError, 503, "server_error", None),
        (DeadlineExceeded("slow"), openai.InternalServerError, 504, "server_error", None),
        (ServerError("broken"), openai.InternalServerError, 500, "server_error", None),
        (ZeroDivisionError("a bug"), openai.InternalServerError, 500, "server_error", None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_failures_become_the_clients_own_errors(
    cause: Exception, expected: type[openai.APIStatusError], status: int, kind: str, code: str | None
) -> None:
    """Whatever goes wrong in a route of this interface, raised in one beside the real ones."""
    app = create_app(Settings(triton_url=f"grpc://127.0.0.1:{free_ports(1)[0]}", patience_s=0))

    @app.post("/v1/failing")
    async def failing() -> None:
        raise cause

    with running(app) as url, connected(url) as client, pytest.raises(expected) as caught:
        client.post("/failing", cast_to=object)
    assert (caught.value.status_code, caught.value.type, caught.value.code) == (status, kind, code)
    if status == 429:
        assert caught.value.response.headers["retry-after"] == "1"


def test_without_triton(texts: list[str]) -> None:
    app = create_app(Settings(triton_url=f"grpc://127.0.0.1:{free_ports(1)[0]}", patience_s=0))
    with running(app) as url, connected(url) as client:
        for call in (lambda: client.embeddings.create(model=MODEL, input=texts), client.models.list):
            with pytest.raises(openai.InternalServerError) as caught:
                call()
            assert (caught.value.status_code, caught.value.type) == (503, "server_error")
            assert caught.value.response.headers["retry-after"] == "3"


def test_too_long_is_refused_where_texts_are_not_cut(service: Service) -> None:
    app = create_app(Settings(triton_url=service.grpc_url, auto_truncate=False))
    with running(app) as url, connected(url) as client:
        assert len(client.embeddings.create(model=MODEL, input="word " * 254).data) == 1
        with pytest.raises(openai.BadRequestError, match=r"input\[1\]: wanted at most 256 tokens, got 402"):
            client.embeddings.create(model=MODEL, input=["a", "word " * 400])
