"""What a graph is tried with: inputs of every shape that serving can send, and what transformers answers.

A Case is one batch: input_ids, attention_mask, token_type_ids, each (batch, sequence) int64. No case has the shape that
the exporters trace. Ids are random over the whole vocabulary, from a fixed seed, and one case is real sentences.

Hostile cases are what only a mistaken or malicious client sends. They have no right answer, but must give finite
numbers or an error: an ONNX Runtime that crashes takes Triton along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from export.encoder import INPUT_NAMES, Encoder, Facts, HiddenStates

__all__ = ["REFUSED", "SENTENCES", "Case", "Ints", "States", "alone", "feeds", "honest", "hostile", "reference"]

Ints = npt.NDArray[np.int64]
States = npt.NDArray[np.float32]  # (batch, sequence, hidden)

SENTENCES = (
    "Triton serves embeddings.",
    "A much longer sentence stands beside short ones, so that the padding of the others is real padding.",
    "Ünïcödé, 日本語, العربية and an emoji 🙂",
    "ok",
    "",
)


@dataclass(frozen=True)
class Case:
    """One batch."""

    name: str
    input_ids: Ints
    attention_mask: Ints
    token_type_ids: Ints


def honest(encoder: Encoder) -> list[Case]:
    """Right-padded batches; `alone` takes them apart."""
    facts, longest = encoder.facts, encoder.facts.max_positions

    def fit(*lengths: int) -> list[int]:
        return [min(length, longest) for length in lengths]

    # Two rows of the longest sequence cost two quadratic attentions: beyond BERT's 512, one is enough.
    extreme = [longest, min(3, longest)] if longest <= 512 else [longest]
    return [
        _case("one token", facts, [1]),
        _case("one text", facts, fit(11)),
        _case("no padding", facts, fit(16, 16, 16)),
        _case("uneven batch", facts, fit(33, 1, 12, 2, 20)),
        _case("all rows padded", facts, fit(10, 4, 7), sequence=min(24, longest)),
        _case("many rows", facts, fit(*(1 + (7 * row) % 40 for row in range(19)))),
        _case("longest position", facts, extreme),
        _with_pad_id_inside(_case("pad id as a token", facts, fit(9, 5, 3)), facts),
        _sentences(encoder),
    ]


def alone(case: Case) -> list[Case]:
    """Every row as a batch of its own, without its padding."""
    return [
        Case(
            f"{case.name}, row {row} alone",
            *(array[row : row + 1, : int(length)] for array in _arrays(case)),
        )
        for row, length in enumerate(case.attention_mask.sum(axis=1))
    ]


# The hostile cases that are the caller's mistake beyond doubt: a CPU must refuse them.
REFUSED = frozenset(
    {"a row without tokens", "a batch without tokens", "one row, no tokens", "ids above the vocabulary", "an id of -1"}
)


def hostile(facts: Facts) -> list[Case]:
    """Batches that no tokenizer makes."""
    usual = _case("usual", facts, [min(9, facts.max_positions), min(4, facts.max_positions)])
    ids, mask, types = _arrays(usual)
    empty_row, holes = mask.copy(), mask.copy()
    empty_row[1] = 0
    holes[0, 1::2] = 0
    holes[1, 0] = 0
    nothing = np.zeros((2, 0), dtype=np.int64)
    no_rows = np.zeros((0, 5), dtype=np.int64)
    return [
        Case("a row without tokens", ids, empty_row, types),
        Case("a batch without tokens", ids, np.zeros_like(mask), types),
        Case("one row, no tokens", ids[:1], np.zeros_like(mask[:1]), types[:1]),
        Case("holes in the mask", ids, holes, types),
        Case("left padding", ids, mask[:, ::-1].copy(), types),
        Case("mask of twos", ids, mask * 2, types),
        Case("mask of minus ones", ids, -mask, types),
        Case("mask of 2^62", ids, mask << 62, types),
        Case("ids above the vocabulary", np.full_like(ids, facts.vocab_size), mask, types),
        Case("an id of -1", np.where(np.arange(ids.shape[1]) == 1, -1, ids), mask, types),
        Case("negative ids", np.full_like(ids, -(2**40)), mask, types),
        Case("token types out of range", ids, mask, types + 7),
        Case("sequence of length 0", nothing, nothing, nothing),
        Case("batch of 0 rows", no_rows, no_rows, no_rows),
        Case("longer than the positions", *_overlong(facts)),
    ]


def feeds(cases: Sequence[Case]) -> dict[str, dict[str, Ints]]:
    """What an ONNX Runtime is fed with, by case."""
    return {case.name: dict(zip(INPUT_NAMES, _arrays(case), strict=True)) for case in cases}


def reference(encoder: Encoder, cases: Sequence[Case]) -> Mapping[str, States]:
    """What transformers answers, by case. Taken before an exporter may change the module."""
    function = HiddenStates(encoder.model)
    with torch.inference_mode():
        return {case.name: function(*(torch.from_numpy(array) for array in _arrays(case))).numpy() for case in cases}


def _arrays(case: Case) -> tuple[Ints, Ints, Ints]:
    return case.input_ids, case.attention_mask, case.token_type_ids


def _case(name: str, facts: Facts, lengths: list[int], sequence: int | None = None) -> Case:
    # The name seeds the numbers, so that a new case does not change the others.
    random = np.random.default_rng([ord(letter) for letter in name])
    shape = (len(lengths), sequence or max(lengths))
    mask = (np.arange(shape[1]) < np.array(lengths)[:, None]).astype(np.int64)
    ids = random.integers(0, facts.vocab_size, shape)
    ids[ids == facts.pad_token_id] = (facts.pad_token_id + 1) % facts.vocab_size
    types = random.integers(0, facts.token_types, shape)
    return Case(name, np.where(mask == 1, ids, facts.pad_token_id), mask, types * mask)


def _with_pad_id_inside(case: Case, facts: Facts) -> Case:
    """A text may contain "<pad>": RoBERTa counts positions by this id, not by the mask."""
    ids = case.input_ids.copy()
    ids[0, min(2, ids.shape[1] - 1)] = facts.pad_token_id
    return Case(case.name, ids, case.attention_mask, case.token_type_ids)


def _sentences(encoder: Encoder) -> Case:
    rows = [encoding.ids for encoding in encoder.tokenizer.encode_batch(list(SENTENCES))]
    rows = [row[: encoder.facts.max_positions] for row in rows]
    shape = (len(rows), max(len(row) for row in rows))
    ids = np.full(shape, encoder.facts.pad_token_id, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return Case("sentences", ids, mask, np.zeros(shape, dtype=np.int64))


def _overlong(facts: Facts) -> tuple[Ints, Ints, Ints]:
    # Beyond some length the quadratic attention says nothing that it would not say here.
    ids = np.full((1, min(facts.max_positions, 1024) + 3), (facts.pad_token_id + 1) % facts.vocab_size, dtype=np.int64)
    return ids, np.ones_like(ids), np.zeros_like(ids)
