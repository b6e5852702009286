"""Right vectors: equal to transformers with a masked mean, and the same however a text arrives."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import tritonclient.http as triton_http

from tests.support.reference import Reference
from tests.support.service import Service
from tests.support.triton import Triton, text_tensor

pytestmark = pytest.mark.triton

TOLERANCE = 1e-5
ODD_TEXTS = [
    "",
    " ",
    "a",
    "\x00",
    "b\x00c",
    "🤗 emoji 👩‍👩‍👧‍👦",
    "量子計算",
    "مرحبا بالعالم",
    "\x07\u200b",
    "naïve café",
    "[MASK]",
    "x" * 400,
]


@pytest.fixture(scope="module")
def texts(real_texts: list[str]) -> list[str]:
    chosen = random.Random(1).sample(real_texts, 90)
    return [*chosen, *ODD_TEXTS]


@pytest.fixture(scope="module")
def truth(reference: Reference, texts: list[str]) -> np.ndarray:
    """(n, hidden) at max_length 128."""
    return reference.embed(texts, 128)


def assert_same(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


def test_alone(triton: Triton, texts: list[str], truth: np.ndarray) -> None:
    assert_same(np.concatenate([triton.embed([text], 128) for text in texts]), truth)


@pytest.mark.parametrize("size", [1, 64])
def test_pooled_inside_the_graph(triton: Triton, texts: list[str], truth: np.ndarray, size: int) -> None:
    batches = [texts[start : start + size] for start in range(0, len(texts), size)]
    assert_same(np.concatenate([triton.embed(batch, 128, "embedding_fused") for batch in batches]), truth)


@pytest.mark.parametrize("size", [2, 7, 64])
def test_in_batches_of_any_order(triton: Triton, texts: list[str], truth: np.ndarray, size: int) -> None:
    order = random.Random(size).sample(range(len(texts)), len(texts))
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        assert_same(triton.embed([texts[row] for row in rows], 128), truth[rows])


@pytest.mark.parametrize("max_length", [2, 3, 17, 512])
def test_other_limits(triton: Triton, reference: Reference, texts: list[str], max_length: int) -> None:
    chosen = sorted(texts, key=len)[-5:]
    assert_same(triton.embed(chosen, max_length), reference.embed(chosen, max_length))


def test_absent_max_length_is_the_model_s_own(triton: Triton, reference: Reference) -> None:
    text = "many words in one text " * 200
    assert_same(triton.embed([text]), reference.embed([text], 256))


def test_mixed_limits_in_one_request(triton: Triton, reference: Reference) -> None:
    text = "many words in one text " * 50
    limits = [5, 128, 2, 64]
    expected = np.concatenate([reference.embed([text], limit) for limit in limits])
    assert_same(triton.embed([text] * 4, limits), expected)


def test_tokens(triton: Triton) -> None:
    arrays = {"TEXT": text_tensor(["", "hello", "hello world " * 400])}
    result = triton.infer("embedding", MAX_LENGTH=np.full((3, 1), 128, np.int32), **arrays)
    assert result.as_numpy("TOKENS").tolist() == [[2], [3], [128]]


def test_http(service: Service, texts: list[str], truth: np.ndarray) -> None:
    with triton_http.InferenceServerClient(f"127.0.0.1:{service.http_port}") as client:
        array = text_tensor(texts[:64])
        inputs = [triton_http.InferInput("TEXT", list(array.shape), "BYTES")]
        inputs[0].set_data_from_numpy(array)
        inputs.append(triton_http.InferInput("MAX_LENGTH", [64, 1], "INT32"))
        inputs[1].set_data_from_numpy(np.full((64, 1), 128, np.int32))
        assert_same(client.infer("embedding", inputs).as_numpy("EMBEDDING"), truth[:64])


def test_rest(service: Service, texts: list[str], truth: np.ndarray) -> None:
    answer = httpx.post(f"{service.rest_url}/embedding", json={"texts": texts, "max_length": 128}, timeout=60)
    assert answer.status_code == 200, answer.text
    assert_same(np.array(answer.json()["embeddings"], dtype=np.float32), truth)


def test_the_example_of_the_reference_service(service: Service, reference: Reference) -> None:
    texts = ["The cat sits outside", "A man is playing guitar", "The new movie is awesome"]
    answer = httpx.post(f"{service.rest_url}/embedding", json={"texts": texts, "max_length": 128}, timeout=60)
    assert list(answer.json()) == ["embeddings"]
    assert_same(np.array(answer.json()["embeddings"], dtype=np.float32), reference.embed(texts, 128))


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_64_threads_get_no_wrong_vector(service: Service, texts: list[str], truth: np.ndarray, seconds: int) -> None:
    """Mixed sizes and interfaces, with and without MAX_LENGTH (below 128 tokens both mean the same)."""
    short = [row for row, text in enumerate(texts) if len(text) < 120]
    wrong: list[str] = []
    done = threading.Semaphore(0)
    end = time.monotonic() + seconds

    def send(seed: int) -> int:
        randomly, count = random.Random(seed), 0
        connection = Triton(service.grpc_port)
        with httpx.Client(timeout=60) as http:
            while time.monotonic() < end:
                absent = randomly.random() < 0.3
                rows = randomly.choices(short if absent else range(len(texts)), k=randomly.choice([1, 1, 1, 2, 5, 12]))
                sent = [texts[row] for row in rows]
                if randomly.random() < 0.5:
                    vectors = connection.embed(sent, None if absent else 128)
                else:
                    answer = http.post(f"{service.rest_url}/embedding", json={"texts": sent})
                    answer.raise_for_status()
                    vectors = np.array(answer.json()["embeddings"], dtype=np.float32)
                difference = np.abs(vectors - truth[rows]).max()
                if not difference <= TOLERANCE:
                    wrong.append(f"{difference} in {rows}")
                count += len(rows)
        connection.client.close()
        done.release()
        return count

    with ThreadPoolExecutor(64) as threads:
        counts = list(threads.map(send, range(64)))
    assert not wrong
    assert min(counts) > 0
