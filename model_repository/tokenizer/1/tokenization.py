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
# A text is looked at whole only where that was not enough, as tokenizing 1 MB takes seconds and holds its batch.
_PREFIX_CHARACTERS_PER_TOKEN = 8
_PREFIX_GROWTH = 8
# A cut may tear an added token such as "[MASK]" apart, so that no more than this before it is trusted.
_TORN_CHARACTERS = 64


def load(path: Path) -> Tokenizer:
    """Read a tokenizer.json, with the truncation and padding that it may carry switched off."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str], limits: Sequence[int]) -> list[list[int]]:
    """Token ids of each text, cut to its limit; special tokens count and survive the cut.

    The ids are those of the whole text, though only a bounded prefix of a long one is tokenized.
    """
    rows_by_limit: dict[int, list[int]] = defaultdict(list)
    for row, limit in enumerate(limits):
        rows_by_limit[limit].append(row)
    ids: list[list[int]] = [[]] * len(texts)
    for limit, rows in rows_by_limit.items():
        for row, row_ids in zip(rows, _encode_to(tokenizer, [texts[r] for r in rows], limit), strict=True):
            ids[row] = row_ids
    return ids


def _encode_to(tokenizer: Tokenizer, texts: Sequence[str], limit: int) -> list[list[int]]:
    tokenizer.enable_truncation(limit)
    first = limit * _PREFIX_CHARACTERS_PER_TOKEN + _TORN_CHARACTERS
    if all(len(text) <= first for text in texts):
        # Without offsets, which only the check of a prefix needs.
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
    encodings = tokenizer.encode_batch([text[:first] for text in texts])
    return [
        (
            encoding
            if len(text) <= first or _prefix_suffices(encoding, first)
            else _encode_growing(tokenizer, text, first * _PREFIX_GROWTH)
        ).ids
        for text, encoding in zip(texts, encodings, strict=True)
    ]


def _encode_growing(tokenizer: Tokenizer, text: str, characters: int) -> Encoding:
    """Encode longer and longer prefixes of a text until one decides its ids."""
    while characters < len(text):
        encoding = tokenizer.encode(text[:characters])
        if _prefix_suffices(encoding, characters):
            return encoding
        characters *= _PREFIX_GROWTH
    return tokenizer.encode(text)


def _prefix_suffices(encoding: Encoding, characters: int) -> bool:
    """Whether the ids of a truncated prefix are certainly those of the whole text.

    They are when the last kept token lies in an earlier word than the prefix's last one, which the cut may have
    torn, and some way before the cut.
    """
    if not encoding.overflowing:
        return False
    kept = [(word, end) for word, (_, end) in zip(encoding.word_ids, encoding.offsets, strict=True) if word is not None]
    dropped = [word for part in encoding.overflowing for word in part.word_ids if word is not None]
    if not dropped:
        return False
    last_word, last_end = kept[-1] if kept else (-1, 0)
    return last_word < max(dropped) and last_end <= characters - _TORN_CHARACTERS


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
