"""The limits on a request: what is allowed is taken, one more is refused and told both, and /info shows them."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from client.rest import Settings, create_app
from tests.support.recorder import recording
from tests.support.shim import running

LIMITS = {"max_texts": 5, "max_text_characters": 100, "max_body_bytes": 1000}


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with recording() as triton:
        app = create_app(Settings(triton_url=triton.url, **LIMITS))  # type: ignore[arg-type]
        with running(app) as url, httpx.Client(base_url=url) as client:
            yield client


# Characters, and not bytes: an emoji is one, of four bytes.
@pytest.mark.parametrize("texts", [["a"] * 5, ["a" * 100], ["🤗" * 100], ["a" * 100] * 5], ids=lambda texts: len(texts))
def test_what_the_limits_allow(http: httpx.Client, texts: list[str]) -> None:
    answer = http.post("/embedding", json={"texts": texts})
    assert (answer.status_code, len(answer.json()["embeddings"])) == (200, len(texts))


@pytest.mark.parametrize(
    ("texts", "status", "message"),
    [
        (["a"] * 6, 422, "texts: wanted at most 5, got 6"),
        (["a", "a" * 101], 422, "texts[1]: wanted at most 100 characters, got 101"),
        (["🤗" * 101], 422, "texts[0]: wanted at most 100 characters, got 101"),
        (["a" * 1000], 413, "body: wanted at most 1000 bytes, got "),
    ],
    ids=["texts", "characters", "emoji", "bytes"],
)
def test_one_more_is_refused(http: httpx.Client, texts: list[str], status: int, message: str) -> None:
    answer = http.post("/embedding", json={"texts": texts})
    assert answer.status_code == status
    assert answer.json()["error"]["message"].startswith(message)


def test_info_shows_them(http: httpx.Client) -> None:
    limits = http.get("/info").json()["limits"]
    shown = {"max_texts": "texts", "max_text_characters": "text_characters", "max_body_bytes": "body_bytes"}
    assert {name: limits[shown[name]] for name in LIMITS} == LIMITS


def test_a_text_of_a_megabyte_is_taken_by_default() -> None:
    with recording() as triton, running(create_app(Settings(triton_url=triton.url))) as url:
        for text in ("a" * 1_000_000, "量" * 1_000_000):
            assert httpx.post(f"{url}/embedding", json={"texts": [text]}, timeout=60).status_code == 200
