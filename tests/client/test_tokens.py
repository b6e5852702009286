"""The shim's own tokenizing: in turns of bounded size, nothing lost between them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import InvalidInput
from client.rest.tokens import _CHARACTERS_PER_TURN, _parsed, _turns, check_characters, count, pieces

LENGTHS = st.lists(st.sampled_from([0, 1, 100, 10_000, 49_990, 49_991, 60_000]), min_size=1, max_size=60)


@given(LENGTHS)
def test_turns(lengths: list[int]) -> None:
    texts = ["x" * length for length in lengths]
    turns = list(_turns(texts))
    assert [text for turn in turns for text in turn] == texts
    assert all(turns)
    for turn in turns:
        assert len(turn) == 1 or sum(map(len, turn)) <= _CHARACTERS_PER_TURN


def test_a_turn_takes_what_it_can() -> None:
    assert len(list(_turns(["x" * 90] * 1000))) == 2


def test_nobody_tokenizes_what_is_too_long_anyway() -> None:
    check_characters(["a" * 500, ""], 2, "inputs")
    with pytest.raises(
        InvalidInput, match=r"inputs\[1\]: wanted at most 2 tokens, .* 500 characters, got 501"
    ) as caught:
        check_characters(["", "a" * 501], 2, "inputs")
    assert caught.value.field == "inputs"


def test_whole_texts_whatever_the_file_says(default_model_folder: Path) -> None:
    # The packaged file carries truncation to 128 and padding to 128.
    tokenizer = _parsed((default_model_folder / "tokenizer.json").read_bytes())
    assert count(tokenizer, "word " * 500) == 502
    assert len(pieces(tokenizer, "word " * 500, special=False)) == 500
    assert len(pieces(tokenizer, "", special=True)) == 2
