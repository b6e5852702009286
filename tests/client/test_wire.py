"""Texts to tensors and back, without a network."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import serialize_byte_tensor

from client import InvalidInput, ServerError
from client._wire import check_max_length, decode, encode, normalized, packed_bytes, pieces


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        pytest.param("one", "texts: wanted a list of strings, got one str; for one text pass [text]", id="str"),
        pytest.param(b"one", "texts: wanted a list of strings, got one bytes; for one text pass [text]", id="bytes"),
        pytest.param(3, "texts: wanted a list of strings, got int", id="int"),
        pytest.param(None, "texts: wanted a list of strings, got None", id="none"),
        pytest.param(["a", 7], "texts[1]: wanted a string, got int", id="item-int"),
        pytest.param(["a", None], "texts[1]: wanted a string, got None", id="item-none"),
        pytest.param(["a", b"b"], "texts[1]: wanted a string, got bytes", id="item-bytes"),
        pytest.param(["a", "x\ud800"], "texts[1]: wanted Unicode text, got a lone surrogate at character 1", id="lone"),
    ],
)
def test_bad_texts(texts: object, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        encode(texts)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_any_iterable_of_strings() -> None:
    assert encode(text for text in ("a", "ü", "")) == [b"a", "ü".encode(), b""]
    assert encode(np.array(["a", "b"])) == [b"a", b"b"]


@pytest.mark.parametrize("value", [2, 128, 512, np.int64(3)])
def test_good_max_length(value: int) -> None:
    assert check_max_length(value, 512) == value


@pytest.mark.parametrize("value", [0, 1, -1, 513, 10**12, 10**30, 1.5, 2.0, True, None, "128"])
def test_bad_max_length_names_both_bounds(value: object) -> None:
    with pytest.raises(InvalidInput, match=r"max_length: wanted an integer from 2 to 512 .*, got ."):
        check_max_length(value, 512)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=20))
def test_packed_bytes_are_tritonclients(texts: list[bytes]) -> None:
    assert packed_bytes(texts) == serialize_byte_tensor(np.array([[text] for text in texts], dtype=np.object_)).item()


@given(st.integers(0, 1000), st.integers(1, 64))
def test_pieces_are_few_even_and_in_order(count: int, size: int) -> None:
    cuts = pieces(count, size)
    assert [index for cut in cuts for index in range(cut.start, cut.stop)] == list(range(count))
    sizes = [cut.stop - cut.start for cut in cuts]
    assert len(cuts) == -(-count // size)
    assert max(sizes, default=0) <= size
    assert max(sizes, default=0) - min(sizes, default=0) <= 1


def test_decode_checks_lengths() -> None:
    vectors, tokens = np.zeros((2, 3), np.float32), np.zeros((2, 1), np.int32)
    assert decode(vectors, tokens, 2).tokens.shape == (2,)
    with pytest.raises(ServerError, match=r"wanted EMBEDDING \(3, hidden\)"):
        decode(vectors, tokens, 3)


def test_normalized() -> None:
    result = normalized(np.array([[3, 4], [0, 0], [1e-30, 0]], np.float32))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[0], [0.6, 0.8])
    assert np.isfinite(result).all()
    assert not result[1].any()
