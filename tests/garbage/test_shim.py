"""Bad requests to the REST shim: each has its own status and the form of its path, and the service goes on."""

from __future__ import annotations

import http.client
import io
import json
import socket

import httpx
import pytest

from tests.garbage.answers import assert_refused
from tests.garbage.bodies import ENCODED, MARKER, NO_JSON_TYPE, NO_OBJECT, NOT_JSON
from tests.garbage.fields import BY_ROUTE
from tests.garbage.heads import ANSWERED, CUT_OFF, NO_HTTP, NO_METHOD
from tests.support.service import Service

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("_shim_still_serves")]

ROUTES = tuple(BY_ROUTE)
JSON = {"Content-Type": "application/json"}
GOOD = json.dumps({"texts": [MARKER], "inputs": [MARKER], "input": [MARKER]})


def refused(path: str, answer: httpx.Response, status: int, message: str, kind: str | None = None) -> None:
    assert_refused(path, answer.status_code, answer.content, answer.headers, status, message, kind)


@pytest.mark.parametrize("name", NOT_JSON)
@pytest.mark.parametrize("route", ROUTES)
def test_not_json(http: httpx.Client, route: str, name: str) -> None:
    answer = http.post(route, content=NOT_JSON[name], headers=JSON)
    refused(route, answer, 400, "body: wanted JSON in UTF-8, got something else")


@pytest.mark.parametrize("name", NO_OBJECT)
@pytest.mark.parametrize("route", ROUTES)
def test_no_object(http: httpx.Client, route: str, name: str) -> None:
    body, got = NO_OBJECT[name]
    status = 400 if route.startswith("/v1/") else 422
    refused(route, http.post(route, content=body, headers=JSON), status, f"body: wanted a JSON object, got {got}")


@pytest.mark.parametrize(("route", "name"), [(route, name) for route, fields in BY_ROUTE.items() for name in fields])
def test_fields(http: httpx.Client, route: str, name: str) -> None:
    fields, status, kind, message = BY_ROUTE[route][name]
    refused(route, http.post(route, json=fields), status, message, kind)


@pytest.mark.parametrize("name", NO_JSON_TYPE)
@pytest.mark.parametrize("route", ROUTES)
def test_no_json_by_its_type(http: httpx.Client, route: str, name: str) -> None:
    kind = NO_JSON_TYPE[name]
    answer = http.post(route, content=GOOD, headers={} if kind is None else {"Content-Type": kind})
    refused(route, answer, 415, "Content-Type: wanted application/json, got")


@pytest.mark.parametrize("coding", ENCODED)
@pytest.mark.parametrize("route", ROUTES)
def test_encoded(http: httpx.Client, route: str, coding: str) -> None:
    answer = http.post(route, content=GOOD, headers={**JSON, "Content-Encoding": coding})
    refused(route, answer, 415, f"Content-Encoding: wanted none, got {coding}")


@pytest.mark.parametrize("route", ROUTES)
def test_too_large(http: httpx.Client, route: str) -> None:
    answer = http.post(route, content=b" " * (33 << 20), headers=JSON)
    refused(route, answer, 413, "body: wanted at most 33554432 bytes, got 34603008")


@pytest.mark.parametrize(
    ("path", "method", "allowed"), [(path, method, had) for path, methods, had in NO_METHOD for method in methods]
)
def test_no_such_method(http: httpx.Client, path: str, method: str, allowed: str) -> None:
    answer = http.request(method, path)
    assert allowed in answer.headers["allow"].split(", ")
    if method == "HEAD":  # has no body
        assert answer.status_code == 405
    else:
        refused(path, answer, 405, f"wanted {answer.headers['allow']}, got {method}")


@pytest.mark.parametrize("name", ANSWERED)
def test_heads(service: Service, name: str) -> None:
    raw, status, message = ANSWERED[name]
    path = raw.split(b" ")[1].decode()
    found, headers, content = exchanged(service.rest_port, raw)
    model = path.startswith("/v1/models/")
    assert_refused(path, found, content, headers, status, message, "model" if model else None)


@pytest.mark.parametrize("name", NO_HTTP)
def test_no_http(service: Service, name: str) -> None:
    status, headers, content = exchanged(service.rest_port, NO_HTTP[name])
    assert (status, content) == (400, b"Invalid HTTP request received.")
    assert headers["connection"] == "close"


@pytest.mark.parametrize("name", CUT_OFF)
def test_cut_off(service: Service, name: str) -> None:
    with socket.create_connection(("127.0.0.1", service.rest_port), timeout=10) as connection:
        connection.sendall(CUT_OFF[name])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1000) == b""


class Received(io.BytesIO):
    """What http.client needs of a socket."""

    def makefile(self, mode: str) -> io.BytesIO:
        return self


def exchanged(port: int, raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send these bytes, and read one answer: its status, headers (names in small letters) and body."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(raw)
        while not _is_whole(received):
            received += (chunk := connection.recv(65536))
            assert chunk, f"ended within an answer, after {received[:200]!r}"
    answer = http.client.HTTPResponse(Received(received))  # type: ignore[arg-type]
    answer.begin()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def _is_whole(received: bytes) -> bool:
    head, end, body = received.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(end) and len(body) >= int(lengths[0] if lengths else len(body))
