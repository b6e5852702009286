"""Token ids: limits, special tokens, padding, and parts of huge texts, which must give the ids of the whole."""

from __future__ import annotations

import pydoc_data.topics
import time
from pathlib import Path

import numpy as np
import pytest
import tokenization
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors, trainers

CLS, SEP = 101, 102


@pytest.fixture(scope="module")
def tokenizer(default_model_folder: Path) -> Tokenizer:
    return tokenization.load(default_model_folder / "tokenizer.json")


def whole(tokenizer: Tokenizer, text: str, limit: int, left: bool = False) -> list[int]:
    """The truth: tokenize all that may have a part, then cut, keeping the special tokens."""
    tokenizer.no_truncation()
    most = tokenization.most_characters(limit)
    first, *ids, last = tokenizer.encode(text[-most:] if left else text[:most]).ids
    cut = max(0, len(ids) - (limit - 2))
    return [first, *(ids[cut:] if left else ids[: limit - 2]), last]


def trained(model: models.Model, pre_tokenizer: pre_tokenizers.PreTokenizer, trainer: trainers.Trainer) -> Tokenizer:
    """A small tokenizer of another kind than BERT's, with special tokens around a text as RoBERTa has."""
    result = Tokenizer(model)
    result.pre_tokenizer = pre_tokenizer
    topics = list(pydoc_data.topics.topics.values())
    result.train_from_iterator(topics[:20], trainer)
    # `lstrip`: takes all white space on its left along, as RoBERTa's and XLM-R's <mask> do.
    result.add_special_tokens(["<s>", "</s>", AddedToken("[MASK]", lstrip=True), AddedToken("[END]", rstrip=True)])
    result.add_tokens([" " * 24, " " * 8])
    ends = [(name, result.token_to_id(name)) for name in ("<s>", "</s>")]
    result.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return result


@pytest.fixture(scope="module")
def tokenizers_of_all_kinds(tokenizer: Tokenizer) -> dict[str, Tokenizer]:
    quiet = {"vocab_size": 600, "show_progress": False}
    metaspace = pre_tokenizers.Metaspace()
    return {
        "wordpiece": tokenizer,
        "byte-level": trained(
            models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), trainers.BpeTrainer(**quiet)
        ),
        "unigram of words": trained(
            models.Unigram(),
            pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace]),
            trainers.UnigramTrainer(**quiet, unk_token="<unk>", special_tokens=["<unk>"]),
        ),
        "unigram of the whole": trained(
            models.Unigram(),
            pre_tokenizers.Metaspace(split=False),
            trainers.UnigramTrainer(**quiet, unk_token="<unk>", special_tokens=["<unk>"]),
        ),
    }


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


def test_both_ends_within_one_call(tokenizer: Tokenizer) -> None:
    text = "one two three four five six"
    ids = tokenization.encode(tokenizer, [text, text, "one", text], [4, 4, 4, 2], [False, True, True, True])
    tokenizer.no_truncation()
    middle = tokenizer.encode(text, add_special_tokens=False).ids
    assert ids[:2] == [[CLS, *middle[:2], SEP], [CLS, *middle[-2:], SEP]]
    assert ids[2:] == [[CLS, middle[0], SEP], [CLS, SEP]]


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("limit", [2, 3, 16, 128, 512])
def test_a_part_gives_the_ids_of_the_whole(tokenizer: Tokenizer, name: str, limit: int, left: bool) -> None:
    text = LONG[name][:150_000]
    assert tokenization.encode(tokenizer, [text], [limit], [left]) == [whole(tokenizer, text, limit, left)]


@given(
    pieces=st.lists(
        st.sampled_from(
            ["word ", "x" * 130, "[MASK]", "[END]", "[MA", "SK]", "字", "é", "\u0301", "  ", "-", "\n", "9", "\u200d"]
        ),
        min_size=60,
        max_size=600,
    ),
    limit=st.integers(2, 8),
)
@settings(max_examples=300, deadline=None)
def test_a_part_gives_the_ids_of_the_whole_wherever_it_is_cut(
    tokenizers_of_all_kinds: dict[str, Tokenizer], pieces: list[str], limit: int
) -> None:
    text = "".join(pieces)
    for kind, tokenizer in tokenizers_of_all_kinds.items():
        for left in (False, True):
            ids = tokenization.encode(tokenizer, [text], [limit], [left])
            assert ids == [whole(tokenizer, text, limit, left)], (kind, left)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("spaces", [50, 100, 400, 4000])
@pytest.mark.parametrize("limit", [3, 4, 8])
def test_an_added_token_that_takes_the_spaces_beside_it(
    tokenizers_of_all_kinds: dict[str, Tokenizer], spaces: int, limit: int, left: bool
) -> None:
    text = "a" + " " * spaces + "[MASK] and some words more " * 10
    if left:
        text = "and some words more [END]" * 10 + " " * spaces + "a"
    for kind, tokenizer in tokenizers_of_all_kinds.items():
        ids = tokenization.encode(tokenizer, [text], [limit], [left])
        assert ids == [whole(tokenizer, text, limit, left)], kind


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("spaces", range(76, 96))
def test_a_special_token_torn_by_the_cut(tokenizer: Tokenizer, spaces: int, left: bool) -> None:
    # Of three tokens, the first or last 88 characters are looked at: some of these end or begin within "[MASK]".
    words = "some words and more"
    text = f"{words} [MASK]{' ' * spaces}" if left else f"{' ' * spaces}[MASK] {words}"
    assert tokenization.encode(tokenizer, [text], [3], [left]) == [whole(tokenizer, text, 3, left)]


def seconds(tokenizer: Tokenizer, text: str, left: bool) -> float:
    """The best of three, as the machine may be busy."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        tokenization.encode(tokenizer, [text], [128], [left])
        times.append(time.perf_counter() - began)
    return min(times)


@pytest.mark.parametrize("left", [False, True])
def test_a_megabyte_is_quick(tokenizer: Tokenizer, left: bool) -> None:
    assert seconds(tokenizer, LONG["english"][:1_000_000], left) < 0.05


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("unit", ["a", " ", "e\u0301", "\u0301", "字", "👩‍👩‍👧‍👦", "[MASK]"])
def test_no_megabyte_holds_up_its_batch(tokenizer: Tokenizer, unit: str, left: bool) -> None:
    assert seconds(tokenizer, unit * (1_000_000 // len(unit)), left) < 0.5
