"""API keys: which are let in, what stays open, how a refusal looks, and that no key is told anywhere."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from client import EmbeddingClient, InvalidInput
from client.rest import Settings, create_app
from client.rest import keys as keys_module
from client.rest.keys import ApiKeys, parse_keys, read_keys
from tests.support.recorder import recording
from tests.support.service import Service
from tests.support.shim import running

BODY = {"texts": ["a text"]}


@pytest.fixture(scope="module")
def guarded() -> Iterator[httpx.Client]:
    """A shim with two keys, in front of no model."""
    with recording() as recorder:
        app = create_app(Settings(triton_url=recorder.url, api_keys="first-key, second-key"))
        with running(app) as url, httpx.Client(base_url=url) as http:
            yield http


def bearer(key: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {key}"}


@pytest.mark.parametrize("headers", [bearer("first-key"), bearer("second-key"), bearer("first-key", "bearer")])
def test_a_key_lets_in(guarded: httpx.Client, headers: dict[str, str]) -> None:
    assert guarded.post("/embedding", json=BODY, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "first-key"},
        {"Authorization": "Bearer"},
        bearer("first-ke"),
        bearer("first-key,second-key"),
        bearer("FIRST-KEY"),
        bearer("first-key", "Basic"),
        {"Authorization": "Bearer ä".encode()},
        {"X-API-Key": "first-key"},
    ],
    ids=str,
)
def test_everything_else_does_not(guarded: httpx.Client, headers: dict[str, str]) -> None:
    answer = guarded.post("/embedding", json=BODY, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["type"] == "unauthorized"
    assert answer.json()["error"]["message"].startswith("Authorization: wanted Bearer and ")
    assert "first-ke" not in answer.text.lower()
    assert "x-request-id" in answer.headers


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/v1/embeddings", {"model": "m", "input": "a"}, {"type": "invalid_request_error", "code": "invalid_api_key"}),
        ("/embed", {"inputs": "a"}, "Authorization: wanted Bearer and an API key, got none"),
        ("/", {"inputs": "a"}, "Authorization: wanted Bearer and an API key, got none"),
        ("/tokenize", {"inputs": "a"}, "Authorization: wanted Bearer and an API key, got none"),
    ],
)
def test_a_refusal_has_the_form_of_its_interface(
    guarded: httpx.Client, path: str, body: dict[str, str], expected: object
) -> None:
    answer = guarded.post(path, json=body)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    error = answer.json()["error"]
    assert expected == ({name: error[name] for name in expected} if isinstance(expected, dict) else error)


def test_the_other_interfaces_take_keys_too(guarded: httpx.Client) -> None:
    headers = bearer("first-key")
    assert guarded.post("/v1/embeddings", json={"model": "m", "input": "a"}, headers=headers).status_code in {200, 404}
    assert guarded.post("/embed", json={"inputs": "a"}, headers=headers).status_code == 200
    assert guarded.get("/health").status_code == 200


def test_a_refusal_does_not_depend_on_the_body(guarded: httpx.Client) -> None:
    for body in (b"{", b"x" * 20_000_000):
        answer = guarded.post("/embedding", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 401


def test_a_model_is_closed_and_health_metrics_and_pages_are_open(guarded: httpx.Client) -> None:
    assert guarded.get("/info").status_code == 401
    for path in ("/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json"):
        assert guarded.get(path).status_code == 200, path


def test_every_route_is_closed_unless_it_was_opened() -> None:
    """A route that somebody adds is behind the keys by itself."""
    app = create_app(Settings(triton_url="grpc://127.0.0.1:1", api_keys="k"))

    async def new() -> str:
        return "secret"

    app.add_api_route("/new/{name}", new)
    opened = set()
    with running(app) as url:
        for path, operations in httpx.get(f"{url}/openapi.json").json()["paths"].items():
            for method, operation in operations.items():
                status = httpx.request(method, url + path).status_code
                assert (status == 401) == ("security" in operation) == ("401" in operation["responses"]), (method, path)
                if status != 401:
                    opened.add(f"{method.upper()} {path}")
    assert "GET /new/{name}" not in opened
    assert {"GET /health/live", "GET /health/ready", "GET /metrics"} <= opened
    assert opened <= {"GET /health/live", "GET /health/ready", "GET /metrics", "GET /health", "GET /"}


@pytest.mark.triton
def test_the_client_shows_its_key(service: Service) -> None:
    app = create_app(Settings(triton_url=service.grpc_url, api_keys="the-key"))
    with running(app) as url:
        with EmbeddingClient(f"rest+{url}", api_key="the-key") as client:
            assert client.embed(["a"]).shape == (1, 384)
        for wrong in (None, "another"):
            with EmbeddingClient(f"rest+{url}", api_key=wrong) as client, pytest.raises(InvalidInput, match="401"):
                client.embed(["a"])


def test_keys_of_the_environment() -> None:
    assert parse_keys(" a, b ,,c") == ["a", "b", "c"]


def test_keys_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# of the team\nfirst\n\n  second  \r\n#third\n")
    assert read_keys(path) == ["first", "second"]
    assert len(ApiKeys(["x"], path)) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "wanted at least one key in .*keys, got none"),
        ("# nobody\n\n", "wanted at least one key in .*keys, got none"),
        ("good\nwith space\n", "keys, line 2: wanted visible ASCII"),
        ("sécret\n", "keys: a character that is not ASCII"),
        (None, "keys: No such file"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValidationError, match=message) as caught:
        Settings(api_keys_file=path)
    assert "with space" not in caught.value.errors()[0]["msg"]


@pytest.mark.parametrize("value", ["", " , ", "one, t wo"])
def test_an_empty_variable_does_not_open_the_service(value: str) -> None:
    """A secret that was not filled in."""
    with pytest.raises(ValidationError, match="wanted") as caught:
        Settings(api_keys=value)
    assert "t wo" not in caught.value.errors()[0]["msg"]


def test_settings_show_no_key() -> None:
    settings = Settings(api_keys="the-key")
    assert "the-key" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert "the-key" not in repr(vars(ApiKeys(["the-key"])))


def test_a_changed_file_counts_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "_REREAD_S", 0.02)
    path = tmp_path / "keys"
    path.write_text("old\n")
    with recording() as recorder:
        app = create_app(Settings(triton_url=recorder.url, api_keys_file=path))
        with running(app) as url, httpx.Client(base_url=url) as http:

            def status(key: str) -> int:
                return http.post("/embedding", json=BODY, headers=bearer(key)).status_code

            def wait_for(key: str, wanted: int) -> None:
                deadline = time.monotonic() + 20
                while status(key) != wanted:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)

            assert (status("old"), status("new")) == (200, 401)
            # As Kubernetes does it: another file takes the name.
            (tmp_path / "next").write_text("new\nold\n")
            os.replace(tmp_path / "next", path)
            wait_for("new", 200)
            assert status("old") == 200
            path.write_text("new\n")
            wait_for("old", 401)
            # Emptied or gone by mistake: nobody is shut out, and above all nobody is let in.
            for spoil in (lambda: path.write_text(""), path.unlink):
                spoil()
                time.sleep(0.2)
                assert (status("new"), status("old"), status("x")) == (200, 401, 401)
            path.write_text("newest\n")
            wait_for("newest", 200)
            assert status("new") == 401
