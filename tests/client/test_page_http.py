"""The page at / as a file: its headers, and that it is sent once."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.support.service import Service

pytestmark = pytest.mark.triton


def test_headers(service: Service) -> None:
    answer = httpx.get(f"{service.rest_url}/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert re.fullmatch("'sha256-[A-Za-z0-9+/]{43}='", policy["script-src"])
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert len(answer.content) < 20_000


def test_head_is_get_without_the_page(service: Service) -> None:
    got, headed = httpx.get(f"{service.rest_url}/"), httpx.head(f"{service.rest_url}/")
    assert headed.content == b""
    for name in ("etag", "content-length", "content-type", "cache-control", "content-security-policy"):
        assert headed.headers[name] == got.headers[name]


@pytest.mark.parametrize("known", ["{}", "W/{}", '"other", {}', "*"])
def test_is_not_sent_twice(service: Service, known: str) -> None:
    etag = httpx.get(f"{service.rest_url}/").headers["etag"]
    answer = httpx.get(f"{service.rest_url}/", headers={"If-None-Match": known.format(etag)})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert httpx.get(f"{service.rest_url}/", headers={"If-None-Match": '"other"'}).status_code == 200
