"""Token ids: limits, special tokens, padding, and prefixes of huge texts, which must give the ids of the whole."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import tokenization
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

CLS, SEP = 101, 102


@pytest.fixture(scope="module")
def tokenizer(default_model_folder: Path) -> Tokenizer:
    return tokenization.load(default_model_folder / "tokenizer.json")


def whole(tokenizer: Tokenizer, text: str, limit: int) -> list[int]:
    """The truth: tokenize all of the text, then cut, keeping [CLS] and [SEP]."""
    tokenizer.no_truncation()
    ids = tokenizer.encode(text).ids
    return ids if len(ids) <= limit else [*ids[: limit - 1], SEP]


def test_load_switches_truncation_and_padding_off(tokenizer: Tokenizer) -> None:
    # The packaged file carries truncation to 128 and padding to 128.
    tokenizer.no_truncation()
    assert len(tokenizer.encode("a").ids) == 3
    assert len(tokenizer.encode("a " * 500).ids) == 502


def test_limits_within_one_call(tokenizer: Tokenizer) -> None:
    text = "one two three four five six"
    ids = tokenization.encode(tokenizer, [text, "", text, text], [4, 128, 128, 2])
    assert [len(row) for row in ids] == [4, 2, 8, 2]
    assert all(row[0] == CLS and row[-1] == SEP for row in ids)
    assert ids[0][1:3] == ids[2][1:3]


def test_no_texts(tokenizer: Tokenizer) -> None:
    assert tokenization.encode(tokenizer, [], []) == []


def test_pad() -> None:
    input_ids, mask = tokenization.pad([[5, 6, 7], [8]], 4, 9)
    assert input_ids.tolist() == [[5, 6, 7, 9], [8, 9, 9, 9]]
    assert mask.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert (input_ids.dtype, mask.dtype) == (np.int64, np.int64)


@pytest.mark.parametrize(("longest", "expected"), [(1, 16), (16, 16), (17, 64), (64, 64), (65, 65)])
def test_width(longest: int, expected: int) -> None:
    assert tokenization.width(longest, [16, 64]) == expected


def test_width_without_buckets() -> None:
    assert tokenization.width(17, []) == 17


LONG = {
    "english": "The quick brown fox jumps over the lazy dog, again and again. " * 20_000,
    "cjk": "量子計算は計算機科学の一分野である。" * 20_000,
    "no spaces": "antidisestablishmentarianism" * 20_000,
    "punctuation": "!?." * 100_000,
    "spaces": " " * 500_000 + "end",
    "words and spaces": "word" + " " * 10_000 + "word " * 10_000,
    "special tokens": "[MASK][SEP]" * 50_000,
    "accents": "Ééâü ́́ " * 50_000,
    "emoji": "👩‍👩‍👧‍👦🇩🇪" * 20_000,
    "arabic": "مرحبا بالعالم " * 20_000,
    "control": "a\x00b\x07c\u200b " * 50_000,
}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("limit", [2, 3, 16, 128, 512])
def test_prefix_gives_the_ids_of_the_whole(tokenizer: Tokenizer, name: str, limit: int) -> None:
    text = LONG[name][:150_000]
    assert tokenization.encode(tokenizer, [text], [limit]) == [whole(tokenizer, text, limit)]


@given(
    pieces=st.lists(
        st.sampled_from(
            ["word ", "x" * 130, "[MASK]", "[MA", "SK]", "字", "é", "\u0301", "  ", "-", "\n", "9", "\u200d"]
        ),
        min_size=60,
        max_size=600,
    ),
    limit=st.integers(2, 8),
)
@settings(max_examples=300, deadline=None)
def test_prefix_gives_the_ids_of_the_whole_wherever_it_is_cut(
    tokenizer: Tokenizer, pieces: list[str], limit: int
) -> None:
    text = "".join(pieces)
    assert tokenization.encode(tokenizer, [text], [limit]) == [whole(tokenizer, text, limit)]


@pytest.mark.parametrize("spaces", range(76, 96))
def test_a_special_token_torn_by_the_cut(tokenizer: Tokenizer, spaces: int) -> None:
    # Of three tokens, the first 88 characters are looked at: some of these end within "[MASK]".
    text = " " * spaces + "[MASK] and some words more"
    assert tokenization.encode(tokenizer, [text], [3]) == [whole(tokenizer, text, 3)]


def test_a_megabyte_is_quick(tokenizer: Tokenizer) -> None:
    text = LONG["english"][:1_000_000]
    tokenization.encode(tokenizer, [text], [128])
    began = time.perf_counter()
    tokenization.encode(tokenizer, [text], [128])
    assert time.perf_counter() - began < 0.05
