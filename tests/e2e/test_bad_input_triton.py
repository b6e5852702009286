"""Bad input sent straight to Triton: the status of each, the neighbours' vectors, and a server that stays up.

What reaches our steps is INVALID_ARG with what was wanted and what came. What Triton's own parser answers is pinned
as it is in 2.51, so that a change is noticed.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from tests.support.service import Service
from tests.support.triton import Triton, tensor, text_tensor

pytestmark = pytest.mark.triton


def ids(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.int64)


def limit(*values: int) -> np.ndarray:
    return np.array([[value] for value in values], dtype=np.int32)


@pytest.fixture(autouse=True)
def _still_serves(service: Service, triton: Triton) -> Any:
    yield
    assert triton.embed(["still here"], 128).shape == (1, 384)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        pytest.param({"TEXT": text_tensor(["a"]), "MAX_LENGTH": limit(0)}, "wanted 2 to 512 tokens, got 0", id="zero"),
        pytest.param({"TEXT": text_tensor(["a"]), "MAX_LENGTH": limit(1)}, "wanted 2 to 512 tokens, got 1", id="one"),
        pytest.param(
            {"TEXT": text_tensor(["a"]), "MAX_LENGTH": limit(-5)}, "wanted 2 to 512 tokens, got -5", id="negative"
        ),
        pytest.param(
            {"TEXT": text_tensor(["a"]), "MAX_LENGTH": limit(513)}, "wanted 2 to 512 tokens, got 513", id="above"
        ),
        pytest.param(
            {"TEXT": text_tensor(["a", "b"]), "MAX_LENGTH": limit(128, 9999)}, r"MAX_LENGTH\[1\]", id="second of two"
        ),
        pytest.param(
            {"TEXT": text_tensor([b"ok", b"a\xff"])}, r"TEXT\[1\]: wanted UTF-8, got byte 0xff at 1", id="utf-8"
        ),
        pytest.param({"TEXT": text_tensor([b"\xed\xa0\x80"])}, r"TEXT\[0\]: wanted UTF-8", id="lone surrogate"),
    ],
)
def test_our_steps_say_what_was_wanted(triton: Triton, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InferenceServerException, match=message) as caught:
        triton.infer("embedding", **arrays)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


@pytest.mark.parametrize(
    "arrays",
    [
        pytest.param({}, id="no inputs"),
        pytest.param({"TEXT": np.array([[1]], np.int32)}, id="wrong dtype"),
        pytest.param({"TEXT": np.array([b"a"], np.object_)}, id="wrong rank"),
        pytest.param({"TEXT": np.array([[b"a", b"b"]], np.object_)}, id="two columns"),
        pytest.param({"TEXT": text_tensor(["a"] * 65)}, id="batch over the limit"),
        pytest.param({"TEXT": text_tensor(["a"]), "OTHER": limit(1)}, id="unknown input"),
        pytest.param({"TEXT": text_tensor(["a", "b"]), "MAX_LENGTH": limit(128)}, id="differing batch sizes"),
        pytest.param({"TEXT": np.empty((0, 1), np.object_)}, id="no rows"),
    ],
)
def test_triton_refuses_wrong_tensors(triton: Triton, arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(InferenceServerException) as caught:
        triton.infer("embedding", **arrays)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_neighbours_of_bad_requests_get_their_vectors(triton: Triton) -> None:
    expected = triton.embed(["a good text"], 128)

    def send(number: int) -> np.ndarray | str:
        try:
            if number % 3 == 0:
                return triton.embed([b"\xff"], 128)
            return triton.embed(["a good text"], 10**9 if number % 3 == 1 else 128)
        except InferenceServerException as error:
            return error.status()

    before = triton.statistics("tokenizer")
    with ThreadPoolExecutor(48) as threads:
        answers = list(threads.map(send, range(480)))
    assert triton.mean_batch_size("tokenizer", before) > 1.5, "good and bad never met in one batch"
    for number, answer in enumerate(answers):
        if number % 3 == 2:
            assert isinstance(answer, np.ndarray), answer
            np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5)
        else:
            assert answer == "StatusCode.INVALID_ARGUMENT"


def bert(triton: Triton, input_ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    arrays = {"input_ids": input_ids, "attention_mask": mask, "token_type_ids": np.zeros_like(input_ids)}
    states: np.ndarray = triton.infer("bert", **arrays).as_numpy("last_hidden_state")
    return states


@pytest.mark.parametrize(
    ("bad_ids", "bad_mask"),
    [
        ([101, 30522, 102], [1, 1, 1]),
        ([101, -1, 102], [1, 1, 1]),
        ([101, -30523, 102], [1, 1, 1]),
        ([101, 2**62, 102], [1, 1, 1]),
        ([101, 7592, 102], [0, 0, 0]),
    ],
)
def test_ids_out_of_the_vocabulary_and_a_mask_of_zeros(triton: Triton, bad_ids: list[int], bad_mask: list[int]) -> None:
    """Each is an error, and who shares a batch with it gets the right states."""
    good = bert(triton, ids([101, 7592, 102]), ids([1, 1, 1]))

    def send(number: int) -> np.ndarray | str | None:
        try:
            if number % 4 == 0:
                return bert(triton, ids(bad_ids), ids(bad_mask))
            return bert(triton, ids([101, 7592, 102]), ids([1, 1, 1]))
        except InferenceServerException as error:
            return error.message()

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(send, range(64)))
    for number, answer in enumerate(answers):
        if number % 4 == 0:
            assert "onnx runtime error" in str(answer)
            assert "out of data bounds" in str(answer)
        else:
            assert isinstance(answer, np.ndarray), answer
            np.testing.assert_allclose(answer, good, rtol=0, atol=1e-4)


@pytest.mark.parametrize("mask", [[1, 0, 1], [7, 7, 0], [0, 1, 1], [-1, -1, -1]])
def test_odd_masks_never_kill_bert(triton: Triton, mask: list[int]) -> None:
    assert np.isfinite(bert(triton, ids([101, 7592, 102]), ids(mask))).all()


def test_too_many_positions(triton: Triton) -> None:
    with pytest.raises(InferenceServerException):
        bert(triton, np.full((1, 600), 7592, np.int64), np.ones((1, 600), np.int64))


def test_the_tokenizers_file_goes_with_one_text_only(triton: Triton, service: Service) -> None:
    outputs = [triton_grpc.InferRequestedOutput("TOKENIZER")]
    answer = triton.client.infer("tokenizer", [tensor("TEXT", text_tensor([""]))], outputs=outputs)
    assert answer.as_numpy("TOKENIZER")[0, 0] == (service.model_repository / "tokenizer/1/tokenizer.json").read_bytes()
    with pytest.raises(InferenceServerException, match="TOKENIZER: wanted one text with it, got 2"):
        triton.client.infer("tokenizer", [tensor("TEXT", text_tensor(["", ""]))], outputs=outputs)


def test_tokenizer_can_be_asked_for_the_manifest_only(triton: Triton, service: Service) -> None:
    outputs = [triton_grpc.InferRequestedOutput("MANIFEST")]
    answer = triton.client.infer("tokenizer", [tensor("TEXT", text_tensor([""]))], outputs=outputs)
    manifest = json.loads(answer.as_numpy("MANIFEST")[0, 0])
    assert manifest == json.loads((service.model_repository / "pooling/1/manifest.json").read_text())
    assert answer.as_numpy("input_ids") is None
