"""The shim without Triton: what it refuses by itself, and what it answers when nobody is behind it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from pydantic_settings import CliApp

from client import Limits, Overloaded
from client.rest import Settings, create_app, errors, openai, tei
from client.rest.admission import Admission, Patience
from client.rest.answer import vectors_answer
from client.rest.door import EMBEDDING_PATHS, watch
from client.rest.errors import failure_of
from tests.support.service import free_ports


@pytest.fixture
def app() -> FastAPI:
    nobody = f"grpc://127.0.0.1:{free_ports(1)[0]}"
    return create_app(Settings(triton_url=nobody, patience_s=0, max_body_bytes=1000, max_texts=10))


def ask(app: FastAPI, method: str, path: str, **arguments: object) -> httpx.Response:
    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://x") as http,
        ):
            return await http.request(method, path, **arguments)  # type: ignore[arg-type]

    return asyncio.run(request())


def test_live_without_triton(app: FastAPI) -> None:
    assert ask(app, "GET", "/health/live").json() == {"status": "live"}


def test_not_ready_without_triton_says_why(app: FastAPI) -> None:
    answer = ask(app, "GET", "/health/ready")
    assert answer.status_code == 503
    assert "cannot reach grpc://127.0.0.1:" in answer.json()["error"]["message"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/info"), ("POST", "/embedding")])
def test_unavailable_without_triton_tells_no_inner_address(app: FastAPI, method: str, path: str) -> None:
    answer = ask(app, method, path, json={"texts": ["a"]})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "3"
    assert answer.json()["error"]["type"] == "unavailable"
    assert "127.0.0.1" not in answer.text


def test_a_bug_answers_a_fixed_sentence(app: FastAPI) -> None:
    async def broken() -> None:
        raise ZeroDivisionError("/a/secret/path")

    app.add_api_route("/broken", broken)
    answer = ask(app, "GET", "/broken")
    assert answer.status_code == 500
    assert answer.json() == {
        "error": {"type": "server_error", "message": "the service failed at this request; its log says why"}
    }


def test_a_body_that_declares_too_much_is_refused_unread(app: FastAPI) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(3600)
            yield b""

    headers = {"Content-Type": "application/json", "Content-Length": str(10**12), "Expect": "100-continue"}
    answer = ask(app, "POST", "/embedding", content=endless(), headers=headers)
    assert answer.status_code == 413


def test_the_page_shows_the_example_and_every_status(app: FastAPI) -> None:
    operation = ask(app, "GET", "/openapi.json").json()["paths"]["/embedding"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["examples"][0]["max_length"] == 128
    assert len(schema["examples"][0]["texts"]) == 3
    assert set(operation["responses"]) == {"200", "400", "413", "415", "422", "429", "500", "503", "504"}


@pytest.mark.parametrize("rows", [1, 3, 33, 34, 1000])
def test_big_answers_in_chunks_are_the_same_json(rows: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(rows, 384)).astype(np.float32)

    async def collect() -> bytes:
        response = vectors_answer(vectors)
        if hasattr(response, "body_iterator"):
            return b"".join([chunk async for chunk in response.body_iterator])
        return bytes(response.body)

    read = np.array(json.loads(asyncio.run(collect()))["embeddings"], np.float32)
    np.testing.assert_array_equal(read, vectors)


def test_the_door_knows_the_routes_that_embed(app: FastAPI) -> None:
    """All that may be refused for too many texts, but for /tokenize, which sends none to Triton."""
    routes = app.openapi()["paths"].items()
    may_refuse = {path for path, methods in routes if "429" in methods.get("post", {}).get("responses", {})}
    assert may_refuse - {"/tokenize"} == set(EMBEDDING_PATHS)


@pytest.mark.parametrize("path", EMBEDDING_PATHS)
def test_the_door_refuses_in_the_words_of_the_path(app: FastAPI, path: str) -> None:
    admission = Admission(Limits(), Patience(burst_requests=0, max_wait_s=0.001))
    counted: list[tuple[str, int]] = []
    door = watch(
        app.state.form_of, admission, Settings().bounds, lambda route, code: lambda: counted.append((route, code))
    )
    assert door.refuse(path.encode(), b"") is None
    # One text has come back in its time, and hundreds wait.
    admission.pace.sent(1)
    time.sleep(0.01)
    admission.pace.back(1, embedded=True)
    admission.first.waiting = 500
    refusal = door.refuse(path.encode(), b"my-id")
    assert refusal is not None
    status, body = app.state.form_of(path)(failure_of(Overloaded("")))
    assert (refusal.status, json.loads(refusal.body)) == (status, body)
    headers = dict(line.split(": ") for line in refusal.headers.decode().splitlines())
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"] == "my-id"
    assert 1 <= int(headers["retry-after"]) <= 31
    assert counted == [(path, status)]
    assert door.refuse(b"/tokenize", b"") is None


def test_settings_flag_over_environment_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDING_REST_PORT", "1111")
    monkeypatch.setenv("EMBEDDING_REST_MAX_TEXTS", "5")
    settings = CliApp.run(Settings, cli_args=["--port", "2222"])
    assert (settings.port, settings.max_texts, settings.host) == (2222, 5, "127.0.0.1")


@pytest.mark.parametrize(
    "values",
    [
        {"port": 70000},
        {"triton_url": "127.0.0.1:8001"},
        {"least_texts_in_flight": 2000},
        {"max_texts": 0},
        {"log_level": "x"},
    ],
    ids=str,
)
def test_bad_settings_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings(**values)  # type: ignore[arg-type]


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_page_promises_failures_in_the_form_in_which_they_come(app: FastAPI) -> None:
    names = {errors.own_form: "ErrorAnswer", openai.form: "OpenAIError", tei.form: "TeiError"}
    page = ask(app, "GET", "/openapi.json").json()
    for path, operations in page["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    schema = answer["content"]["application/json"]["schema"]["$ref"]
                    assert schema.endswith(f"/{names[app.state.form_of(path)]}"), (path, status)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed", "/", "/tokenize"])
def test_every_interfaces_page_has_an_example(app: FastAPI, path: str) -> None:
    operation = ask(app, "GET", "/openapi.json").json()["paths"][path]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["examples"]
    assert {"400", "413", "415", "429", "503", "504"} < set(operation["responses"])
