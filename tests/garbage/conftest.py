"""After every bad request a good one, and its right vector."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from tests.garbage.bodies import MARKER
from tests.support.reference import Reference
from tests.support.service import Service
from tests.support.triton import Triton

_GOOD = "The cat sits outside"


@pytest.fixture(scope="session")
def right(reference: Reference) -> np.ndarray:
    """The good text's vector, by transformers: (hidden,) float32."""
    vector: np.ndarray = reference.embed([_GOOD], 128)[0]
    return vector


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.rest_url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module", autouse=True)
def _logs_have_no_text(service: Service) -> Iterator[None]:
    """What was wrong is told to the sender; nothing of what was sent may be in a log."""
    yield
    assert MARKER not in service.log.read_text(errors="replace").lower()


@pytest.fixture
def _shim_still_serves(http: httpx.Client, right: np.ndarray) -> Iterator[None]:
    yield
    answer = http.post("/embedding", json={"texts": [_GOOD]})
    assert answer.status_code == 200
    np.testing.assert_allclose(answer.json()["embeddings"][0], right, rtol=0, atol=1e-5)


@pytest.fixture
def _triton_still_serves(triton: Triton, right: np.ndarray) -> Iterator[None]:
    yield
    np.testing.assert_allclose(triton.embed([_GOOD], 128)[0], right, rtol=0, atol=1e-5)
