"""Real texts of mixed lengths that every machine has: paragraphs of Python's own documentation, as token ids.

What is judged by figures and not by equality is judged on them: the accuracy of int8 (precision_gate.py), the speed of
graphs (graph_race.py).
"""

from __future__ import annotations

import pydoc_data.topics
import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tokenizers

from export.encoder import INPUT_NAMES, Encoder

__all__ = ["COUNT", "Rows", "feed", "token_ids"]

COUNT = 224
MAX_TOKENS = 128

Rows = Sequence[Sequence[int]]


def token_ids(encoder: Encoder) -> Rows:
    """Of COUNT paragraphs, each cut at MAX_TOKENS; always the same."""
    topics = pydoc_data.topics.topics
    parts = (" ".join(part.split()) for name in sorted(topics) for part in topics[name].split("\n\n"))
    texts = list(dict.fromkeys(text for text in parts if text))
    random.Random(0).shuffle(texts)
    tokenizer = tokenizers.Tokenizer.from_str(encoder.tokenizer.to_str())
    tokenizer.enable_truncation(min(MAX_TOKENS, encoder.facts.max_sequence_length))
    tokenizer.no_padding()
    return [encoding.ids for encoding in tokenizer.encode_batch(texts[:COUNT])]


def feed(rows: Rows, pad_token_id: int) -> dict[str, npt.NDArray[np.int64]]:
    """A batch, padded to its longest row: (rows, longest) int64 by input name."""
    shape = (len(rows), max(len(row) for row in rows))
    ids = np.full(shape, pad_token_id, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return dict(zip(INPUT_NAMES, (ids, mask, np.zeros_like(ids)), strict=True))
