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


def encode(tokenizer: Tokenizer, texts: Sequence[str], limits: Sequence[int]) -> list[list[int]]:
    """Token ids of each text, cut to its limit; special tokens count and survive the cut.

    The ids are those of the text's first `most_characters(limit)` characters; of a long text less than that is
    tokenized where the ids are certainly the same.
    """
    rows_by_limit: dict[int, list[int]] = defaultdict(list)
    for row, limit in enumerate(limits):
        rows_by_limit[limit].append(row)
    ids: list[list[int]] = [[]] * len(texts)
    for limit, rows in rows_by_limit.items():
        for row, row_ids in zip(rows, _encode_to(tokenizer, [texts[r] for r in rows], limit), strict=True):
            ids[row] = row_ids
    return ids


def most_characters(limit: int) -> int:
    """How many characters of a text can have a part in its ids."""
    return max(limit * _MOST_CHARACTERS_PER_TOKEN, _MOST_CHARACTERS_AT_LEAST)


def _encode_to(tokenizer: Tokenizer, texts: Sequence[str], limit: int) -> list[list[int]]:
    tokenizer.enable_truncation(limit)
    first = limit * _FIRST_CHARACTERS_PER_TOKEN + _TORN_CHARACTERS
    if all(len(text) <= first for text in texts):
        # Without offsets, which only the check of a prefix needs.
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
    prefixes = [text[:first] for text in texts]
    return [
        (
            encoding
            if len(text) <= first or _prefix_suffices(encoding, prefix)
            else _encode_growing(tokenizer, text[: most_characters(limit)], first * _GROWTH)
        ).ids
        for text, prefix, encoding in zip(texts, prefixes, tokenizer.encode_batch(prefixes), strict=True)
    ]


def _encode_growing(tokenizer: Tokenizer, text: str, characters: int) -> Encoding:
    """Encode longer and longer prefixes of a text until one decides its ids."""
    while characters < len(text):
        prefix = text[:characters]
        encoding = tokenizer.encode(prefix)
        if _prefix_suffices(encoding, prefix):
            return encoding
        characters *= _GROWTH
    return tokenizer.encode(text)


def _prefix_suffices(encoding: Encoding, prefix: str) -> bool:
    """Whether the ids of a truncated prefix are certainly those of any text that begins with it.

    They are when the last kept token lies in an earlier word than the prefix's last one, which the cut may have
    torn, and before what an added token at the cut could take: its own length, and the white space on its left.
    """
    if not encoding.overflowing:
        return False
    kept = [(word, end) for word, (_, end) in zip(encoding.word_ids, encoding.offsets, strict=True) if word is not None]
    dropped = [word for part in encoding.overflowing for word in part.word_ids if word is not None]
    if not dropped:
        return False
    last_word, last_end = kept[-1] if kept else (-1, 0)
    trusted = len(prefix[: max(0, len(prefix.rstrip()) - _TORN_CHARACTERS)].rstrip())
    return last_word < max(dropped) and last_end <= trusted


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
