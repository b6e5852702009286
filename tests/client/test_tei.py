"""The interface of Text Embeddings Inference, through Hugging Face's own client, against the real service."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from tokenizers import Tokenizer

from client import DeadlineExceeded, EmbeddingClient, Overloaded, ServerError, Unavailable
from client.rest import Settings, create_app
from export import manifest
from tests.support.forwarder import forwarding
from tests.support.reference import Reference
from tests.support.service import Service, free_ports, serving
from tests.support.shim import running

pytestmark = pytest.mark.triton

TEXTS = [
    "The cat sits outside",
    "A man is playing guitar",
    "many words and long ones antidisestablishmentarianism " * 60,
]
SHORT = TEXTS[:2]


@pytest.fixture(scope="module")
def client(service: Service) -> InferenceClient:
    return InferenceClient(model=service.rest_url)


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.rest_url, timeout=120) as made:
        yield made


@pytest.fixture(scope="module")
def raw(service: Service) -> np.ndarray:
    """(n, hidden): not normalised, cut at the model's own limit."""
    with EmbeddingClient(service.grpc_url) as direct:
        return direct.embed(TEXTS)


@pytest.fixture(scope="module")
def other_repository(model_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as another model: with prompts, and a tokenizer that does not lower cases."""
    folder = tmp_path_factory.mktemp("other") / "repository"
    shutil.copytree(model_repository, folder)
    path = folder / "tokenizer/1/tokenizer.json"
    content = json.loads(path.read_text())
    content["normalizer"]["lowercase"] = False
    path.write_text(json.dumps(content))
    before = manifest.read(folder / "tokenizer/1/manifest.json")
    files = {**before.files, "tokenizer/1/tokenizer.json": manifest.sha256(path)}
    after = dataclasses.replace(before, prompts={"query": "query: ", "passage": "passage: "}, files=files)
    manifest.write(manifest.with_digest(after), folder)
    return folder


@pytest.fixture(scope="module")
def other(other_repository: Path) -> Iterator[Service]:
    with serving(other_repository) as made:
        yield made


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def assert_same(found: object, expected: np.ndarray) -> None:
    np.testing.assert_allclose(np.array(found, np.float32), expected, rtol=0, atol=1e-5)


def test_a_list(client: InferenceClient, raw: np.ndarray) -> None:
    assert_same(client.feature_extraction(SHORT), unit(raw[:2]))


def test_a_string_gives_a_list_of_one(client: InferenceClient, raw: np.ndarray) -> None:
    assert_same(client.feature_extraction(TEXTS[0]), unit(raw[:1]))


def test_asynchronously(service: Service, raw: np.ndarray) -> None:
    async def ask() -> list[np.ndarray]:
        async with AsyncInferenceClient(model=f"{service.rest_url}/embed") as client:
            return await asyncio.gather(*(client.feature_extraction(text) for text in TEXTS))

    assert_same(np.concatenate(asyncio.run(ask())), unit(raw))


@pytest.mark.parametrize("path", ["", "/embed"])
def test_normalize_and_dimensions(service: Service, raw: np.ndarray, path: str) -> None:
    client = InferenceClient(model=service.rest_url + path)
    assert_same(client.feature_extraction(TEXTS, normalize=False), raw)
    assert_same(client.feature_extraction(TEXTS, normalize=True), unit(raw))
    assert_same(client.feature_extraction(TEXTS, dimensions=50), unit(raw[:, :50]))
    assert_same(client.feature_extraction(TEXTS, dimensions=50, normalize=False), raw[:, :50])


def test_cut_on_the_right_and_on_the_left(client: InferenceClient, reference: Reference) -> None:
    long = [TEXTS[2], "first words " + "word " * 300 + "last words", *SHORT]
    right = client.feature_extraction(long, normalize=False, truncate=True, truncation_direction="right")
    assert_same(right, reference.embed(long, 256))
    left = client.feature_extraction(long, normalize=False, truncate=True, truncation_direction="left")
    assert_same(left, reference.embed(long, 256, truncation_side="left"))
    assert np.abs(left - right).max(axis=1)[:2].min() > 1e-3
    assert_same(left[2:], right[2:])


def test_left_as_tei_spells_it_itself(http: httpx.Client, reference: Reference) -> None:
    answer = http.post("/embed", json={"inputs": TEXTS[2], "truncation_direction": "Left", "normalize": False})
    assert_same(answer.json(), reference.embed(TEXTS[2:], 256, truncation_side="left"))


@pytest.mark.slow
def test_left_for_many_and_for_huge_texts(client: InferenceClient, reference: Reference) -> None:
    many = [f"{'word ' * 300}{number}" for number in range(100)]
    found = client.feature_extraction(many, normalize=False, truncation_direction="left")
    assert_same(found[[0, 31, 32, 99]], reference.embed([many[row] for row in (0, 31, 32, 99)], 256, "left"))
    huge = "The quick brown fox jumps over the lazy dog. " * 22_000 + "antidisestablishmentarianism"
    found = client.feature_extraction(huge, normalize=False, truncation_direction="left")
    assert_same(found, reference.embed([huge[-20_000:]], 256, "left"))


def words(count: int) -> str:
    """A text of so many tokens, the two special ones included."""
    return "word " * (count - 2)


@pytest.mark.parametrize("direction", ["left", "right"])
def test_truncate_false_refuses_what_is_too_long(client: InferenceClient, direction: str) -> None:
    fits = [words(255), words(256), "a"]
    assert client.feature_extraction(fits, truncate=False, truncation_direction=direction).shape == (3, 384)  # type: ignore[arg-type]
    with pytest.raises(HfHubHTTPError) as caught:
        client.feature_extraction([*fits, words(257)], truncate=False)
    answer = caught.value.response
    assert answer.status_code == 422
    assert answer.json() == {"error": "inputs[3]: wanted at most 256 tokens, got 257", "error_type": "Validation"}


def test_truncate_false_refuses_a_huge_text_untokenized(http: httpx.Client) -> None:
    answer = http.post("/embed", json={"inputs": ["a", "x" * 64_001], "truncate": False})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("inputs[1]: wanted at most 256 tokens, and so at most 64000 characters")
    # As many as are allowed are one word of one token here.
    assert http.post("/embed", json={"inputs": "x" * 64_000, "truncate": False}).status_code == 200


def test_many_texts_at_the_limit_are_all_counted(http: httpx.Client) -> None:
    texts = [words(256)] * 45 + [words(300)]  # more than one turn of the tokenizer
    answer = http.post("/embed", json={"inputs": texts, "truncate": False})
    assert answer.json()["error"] == "inputs[45]: wanted at most 256 tokens, got 300"


def test_the_service_may_refuse_by_itself(service: Service) -> None:
    with running(create_app(Settings(triton_url=service.grpc_url, auto_truncate=False))) as url:
        assert httpx.get(f"{url}/info", timeout=60).json()["auto_truncate"] is False
        statuses = [
            httpx.post(f"{url}/embed", json={"inputs": words(257), **fields}, timeout=60).status_code
            for fields in ({}, {"truncate": None}, {"truncate": True}, {"truncate": False})
        ]
    assert statuses == [422, 422, 200, 422]


def test_prompts(other: Service) -> None:
    client = InferenceClient(model=other.rest_url)
    found = client.feature_extraction(SHORT, prompt_name="query")
    with EmbeddingClient(other.grpc_url) as direct:
        assert_same(found, direct.embed([f"query: {text}" for text in SHORT], normalize=True))
        assert_same(client.feature_extraction(SHORT), direct.embed(SHORT, normalize=True))
    tokens = httpx.post(f"{other.rest_url}/tokenize", json={"inputs": "a", "prompt_name": "passage"}).json()
    assert [token["text"] for token in tokens[0]] == ["[CLS]", "passage", ":", "a", "[SEP]"]
    assert httpx.get(f"{other.rest_url}/info").json()["prompts"] == {"query": "query: ", "passage": "passage: "}
    answer = httpx.post(f"{other.rest_url}/embed", json={"inputs": "a", "prompt_name": "web"})
    message = "prompt_name: wanted one of passage, query, got another name"
    assert (answer.status_code, answer.json()) == (422, {"error": message, "error_type": "Validation"})


def test_a_model_without_prompts(client: InferenceClient) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        client.feature_extraction("a", prompt_name="query")
    assert caught.value.response.status_code == 422
    assert "wanted none, as the model has no prompts" in caught.value.response.json()["error"]


@pytest.fixture(scope="module")
def tokenizer(default_model_folder: Path) -> Tokenizer:
    result = Tokenizer.from_file(str(default_model_folder / "tokenizer.json"))
    result.no_truncation()
    result.no_padding()
    return result


@pytest.mark.parametrize("special", [True, False])
def test_tokenize(http: httpx.Client, tokenizer: Tokenizer, real_texts: list[str], special: bool) -> None:
    texts = [*real_texts[:300], "Café ﬁn 🤗👩‍👩‍👧‍👦", "word " * 1000, " "]
    assert sum(map(len, texts)) > 50_000  # more than one turn
    body = {"inputs": texts, "add_special_tokens": special}
    answer = http.post("/tokenize", json=body)
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert len(found) == len(texts)
    for text, tokens in zip(texts, found, strict=True):
        expected = tokenizer.encode(text, add_special_tokens=special)
        assert [token["id"] for token in tokens] == expected.ids
        for token, (start, stop) in zip(tokens, expected.offsets, strict=True):
            assert set(token) == {"id", "text", "special", "start", "stop"}
            if token["special"]:
                assert (token["text"], token["start"], token["stop"]) in {("[CLS]", None, None), ("[SEP]", None, None)}
            else:
                assert (token["text"], token["start"], token["stop"]) == (text[start:stop], start, stop)


def test_tokenize_one_text(http: httpx.Client) -> None:
    tokens = http.post("/tokenize", json={"inputs": "Unaffable cats"}).json()
    assert [token["text"] for token in tokens[0]] == ["[CLS]", "Una", "ffa", "ble", "cats", "[SEP]"]


def test_the_tokenizer_is_that_of_the_model_that_is_served_now(service: Service, other: Service) -> None:
    port = free_ports(1)[0]
    app = create_app(Settings(triton_url=f"grpc://127.0.0.1:{port}"))

    async def ask(app: FastAPI) -> list[list[int]]:
        found = []
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://x") as http,
        ):
            for target in (service.grpc_port, other.grpc_port):
                async with forwarding(port, target):
                    for _ in range(200):  # the connection to the first one has to be lost and made again
                        answer = await http.post("/tokenize", json={"inputs": "Cats"})
                        if answer.status_code == 200:
                            break
                        await asyncio.sleep(0.1)
                    found.append([token["id"] for token in answer.json()[0]])
        return found

    # The other one does not lower cases, and its vocabulary has no capitals: an unknown word.
    assert asyncio.run(ask(app)) == [[101, 8870, 102], [101, 100, 102]]


def test_info_has_teis_names(http: httpx.Client) -> None:
    info = http.get("/info").json()
    assert info["model_id"] == info["served_model_name"] == info["model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert info["model_sha"] == info["revision"]
    assert info["model_dtype"] == "float32"
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (info["max_input_length"], info["max_client_batch_size"]) == (256, 10_000)
    assert info["auto_truncate"] is True
    numbers = ("max_concurrent_requests", "max_batch_tokens", "max_batch_requests", "tokenization_workers")
    assert all(isinstance(info[name], int) and info[name] > 0 for name in numbers)
    assert info["version"] == info["versions"]["service"]


def test_health(http: httpx.Client) -> None:
    answer = http.get("/health")
    assert (answer.status_code, answer.content) == (200, b"")


def assert_refused(answer: httpx.Response, status: int, kind: str) -> None:
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "error_type"}
    assert answer.json()["error_type"] == kind


@pytest.mark.parametrize("path", ["/", "/embed", "/tokenize"])
def test_bodies_that_are_none(http: httpx.Client, path: str) -> None:
    assert_refused(http.post(path, content=b"{", headers={"Content-Type": "application/json"}), 400, "Validation")
    assert_refused(http.post(path, content=b"a", headers={"Content-Type": "text/plain"}), 415, "Validation")
    huge = json.dumps({"inputs": "a" * (33 << 20)})
    assert_refused(http.post(path, content=huge, headers={"Content-Type": "application/json"}), 413, "Validation")
    if path != "/":
        assert_refused(http.get(path), 405, "Validation")


def test_unknown_and_null_fields_are_left_aside(http: httpx.Client, raw: np.ndarray) -> None:
    names = ("normalize", "truncate", "truncation_direction", "prompt_name", "dimensions")
    body = {"inputs": SHORT, "parameters": {}, "encoding_format": "float", **dict.fromkeys(names)}
    answer = http.post("/embed", json=body)
    assert_same(answer.json(), unit(raw[:2]))


@pytest.mark.parametrize(
    ("cause", "status", "kind"),
    [
        (Overloaded("full"), 429, "Overloaded"),
        (Unavailable("away"), 503, "Unhealthy"),
        (ServerError("broken"), 424, "Backend"),
        (DeadlineExceeded("slow"), 504, "Backend"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_failures_in_teis_words(cause: Exception, status: int, kind: str) -> None:
    """Whatever goes wrong on a path of this interface, raised on one of them."""
    app = create_app(Settings(triton_url=f"grpc://127.0.0.1:{free_ports(1)[0]}", patience_s=0))

    @app.put("/embed")
    async def failing() -> None:
        raise cause

    with running(app) as url:
        assert_refused(httpx.put(f"{url}/embed"), status, kind)


def test_without_triton() -> None:
    app = create_app(Settings(triton_url=f"grpc://127.0.0.1:{free_ports(1)[0]}", patience_s=0))
    with running(app) as url:
        for answer in (
            httpx.get(f"{url}/health"),
            httpx.post(f"{url}/embed", json={"inputs": "a"}),
            httpx.post(f"{url}/tokenize", json={"inputs": "a"}),
        ):
            assert_refused(answer, 503, "Unhealthy")
