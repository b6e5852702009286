"""The reference service does what its description says, its faults included."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.reference_service import create_app
from tests.support.reference import Reference

LONG = "A much longer text, so that the other one has to be padded to its length, which then changes its vector."


@pytest.fixture(scope="module")
def app(default_model_folder: Path) -> object:
    return create_app(default_model_folder)


def embed(app: object, texts: list[str], **options: object) -> np.ndarray:
    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://reference") as http:
            return await http.post("/embedding", json={"texts": texts, **options})

    answer = asyncio.run(post())
    assert answer.status_code == 200, answer.text
    return np.asarray(answer.json()["embeddings"])


def test_a_single_text_is_right(app: object, reference: Reference) -> None:
    np.testing.assert_allclose(embed(app, ["One text."]), reference.embed(["One text."], 128), atol=1e-5)


def test_the_mean_is_over_padding_too(app: object, reference: Reference) -> None:
    in_company = embed(app, ["Short.", LONG])[0]
    assert np.abs(in_company - reference.embed(["Short."], 128)[0]).max() > 0.05


def test_max_length_cuts(app: object, reference: Reference) -> None:
    np.testing.assert_allclose(embed(app, [LONG], max_length=8), reference.embed([LONG], 8), atol=1e-5)
