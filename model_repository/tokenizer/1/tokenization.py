"""Texts to token ids and ids to padded arrays, without Triton.

texts: n str, limits: n int  ->  ids: n lists of int, special tokens included
ids                          ->  input_ids, attention_mask: (n, sequence) int64
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from tokenizers import Encoding

# Characters of a text that are looked at first, per token of its limit: English has 4 to 5 characters a token.
_FIRST_CHARACTERS_PER_TOKEN = 8
_GROWTH = 8
# And at most: tokenizing 1 MB takes seconds and holds its batch, so what lies beyond has no part in the vector. Only a
# text of endless words or white space, whose first tokens do not fill its limit by then, can tell.
_MOST_CHARACTERS_PER_TOKEN = 256
_MOST_CHARACTERS_AT_LEAST = 16_384
# A cut may tear an added token such as "[MASK]" apart, so that no more than this before it is trusted.
_TORN_CHARACTERS = 64


def load(path: Path) -> Tokenizer:
    """Read a tokenizer.json, with the truncation and padding that it may carry switched off."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encode(
    tokenizer: Tokenizer, texts: Sequence[str], limits: Sequence[int], left: Sequence[bool] | None = None
) -> list[list[int]]:
    """Token ids of each text, cut to its limit; special tokens count and survive the cut.

    The ids are those of the text's first `most_characters(limit)` characters; of a long text less than that is
    tokenized where the ids are certainly the same. A text that is cut on the left keeps its end instead, and the ids
    are those of its last characters.
    """
    rows_by_cut: dict[tuple[int, bool], list[int]] = defaultdict(list)
    for row, cut in enumerate(zip(limits, left or [False] * len(texts), strict=True)):
        rows_by_cut[cut].append(row)
    ids: list[list[int]] = [[]] * len(texts)
    for (limit, on_left), rows in rows_by_cut.items():
        for row, row_ids in zip(rows, _encode_to(tokenizer, [texts[r] for r in rows], limit, on_left), strict=True):
            ids[row] = row_ids
    return ids


def most_characters(limit: int) -> int:
    """How many characters of a text can have a part in its ids."""
    return max(limit * _MOST_CHARACTERS_PER_TOKEN, _MOST_CHARACTERS_AT_LEAST)


def _encode_to(tokenizer: Tokenizer, texts: Sequence[str], limit: int, left: bool) -> list[list[int]]:
    tokenizer.enable_truncation(limit, direction="left" if left else "right")
    first = limit * _FIRST_CHARACTERS_PER_TOKEN + _TORN_CHARACTERS
    if all(len(text) <= first for text in texts):
        # Without offsets, which only the check of a part needs.
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
    parts = [_part(text, first, left) for text in texts]
    return [
        (
            encoding
            if len(text) <= first or _suffices(encoding, part, left)
            else _encode_growing(tokenizer, _part(text, most_characters(limit), left), first * _GROWTH, left)
        ).ids
        for text, part, encoding in zip(texts, parts, tokenizer.encode_batch(parts), strict=True)
    ]


def _part(text: str, characters: int, left: bool) -> str:
    """The end of a text that is cut on the left, the beginning of one that is not."""
    return text[-characters:] if left else text[:characters]


def _encode_growing(tokenizer: Tokenizer, text: str, characters: int, left: bool) -> Encoding:
    """Encode longer and longer parts of a text until one decides its ids."""
    while characters < len(text):
        part = _part(text, characters, left)
        encoding = tokenizer.encode(part)
        if _suffices(encoding, part, left):
            return encoding
        characters *= _GROWTH
    return tokenizer.encode(text)


def _suffices(encoding: Encoding, part: str, left: bool) -> bool:
    return _suffix_suffices(encoding, part) if left else _prefix_suffices(encoding, part)


def _prefix_suffices(encoding: Encoding, prefix: str) -> bool:
    """Whether the ids of a truncated prefix are certainly those of any text that begins with it.

    They are when the last kept token lies in an earlier word than the prefix's last one, which the cut may have
    torn, and before what an added token at the cut could take: its own length, and the white space on its left.
    """
    kept = [(word, end) for word, (_, end) in zip(encoding.word_ids, encoding.offsets, strict=True) if word is not None]
    dropped = _dropped_words(encoding)
    if not dropped:
        return False
    last_word, last_end = kept[-1] if kept else (-1, 0)
    trusted = len(prefix[: max(0, len(prefix.rstrip()) - _TORN_CHARACTERS)].rstrip())
    return last_word < max(dropped) and last_end <= trusted


def _suffix_suffices(encoding: Encoding, suffix: str) -> bool:
    """The same at the other end: whether the ids are certainly those of any text that ends with the suffix."""
    kept = [
        (word, start) for word, (start, _) in zip(encoding.word_ids, encoding.offsets, strict=True) if word is not None
    ]
    dropped = _dropped_words(encoding)
    if not dropped:
        return False
    first_word, first_start = kept[0] if kept else (max(dropped) + 1, len(suffix))
    blank = len(suffix) - len(suffix.lstrip())
    trusted = len(suffix) - len(suffix[blank + _TORN_CHARACTERS :].lstrip())
    return first_word > min(dropped) and first_start >= trusted


def _dropped_words(encoding: Encoding) -> list[int]:
    """The words, or parts of them, that the limit cut off."""
    return [word for part in encoding.overflowing for word in part.word_ids if word is not None]


def width(longest: int, buckets: Sequence[int]) -> int:
    """The smallest bucket that holds `longest` tokens; `longest` itself above the largest bucket."""
    return next((bucket for bucket in buckets if bucket >= longest), longest)


def pad(
    ids: Sequence[Sequence[int]], length: int, pad_token_id: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Fill rows up to `length` on the right: input_ids and attention_mask, both (n, length) int64."""
    input_ids = np.full((len(ids), length), pad_token_id, dtype=np.int64)
    attention_mask = np.zeros((len(ids), length), dtype=np.int64)
    for row, row_ids in enumerate(ids):
        input_ids[row, : len(row_ids)] = row_ids
        attention_mask[row, : len(row_ids)] = 1
    return input_ids, attention_mask
