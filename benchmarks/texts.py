"""Real texts that every machine has: the paragraphs of Python's own documentation (`pydoc_data.topics`).

topics  ->  paragraphs, each once  ->  halves "tuning" and "reporting"  ->  a workload's texts, in a fixed order

Tune on the one half and report on the other, so that nobody tunes on the texts that are reported. A paragraph that
stands twice in the documentation is in one half only. The texts change a little with the version of Python: results
carry `digest`, and only results with the same one compare.
"""

from __future__ import annotations

import hashlib
import itertools
import pydoc_data.topics
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

__all__ = ["WORKLOADS", "Part", "digest", "paragraphs", "workload"]

Part = Literal["tuning", "reporting"]

WORKLOADS = {
    "mixed": "paragraphs as they are: a quarter is longer than 60 tokens, a quarter shorter than 18",
    "short": "single sentences of 3 to 12 words, as search queries are",
    "full": "paragraphs joined to at least 128 words, so that each is cut at 128 tokens",
}
_SEED = 0
_SHORT_WORDS = range(3, 13)
_FULL_WORDS = 128  # a word is at least one token


def workload(name: str, count: int, part: Part = "reporting") -> list[str]:
    """`count` texts of a workload, always the same; they repeat when there are fewer."""
    makers: dict[str, Callable[[list[str]], Iterator[str]]] = {"mixed": iter, "short": _sentences, "full": _joined}
    if name not in makers:
        raise ValueError(f"workload: wanted one of {', '.join(makers)}, got {name!r}")
    texts = list(makers[name](paragraphs(part)))
    return list(itertools.islice(itertools.cycle(texts), count))


def paragraphs(part: Part) -> list[str]:
    """One half of all paragraphs, white space made single, in a fixed random order."""
    topics = pydoc_data.topics.topics
    parts = (" ".join(part.split()) for name in sorted(topics) for part in topics[name].split("\n\n"))
    unique = list(dict.fromkeys(text for text in parts if text))
    random.Random(_SEED).shuffle(unique)
    middle = len(unique) // 2
    return unique[:middle] if part == "tuning" else unique[middle:]


def digest(texts: Sequence[str]) -> str:
    """Twelve hex digits that tell whether two results were taken with the same texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


def _sentences(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        yield from (part for part in text.split(". ") if len(part.split()) in _SHORT_WORDS)


def _joined(texts: Sequence[str]) -> Iterator[str]:
    gathered: list[str] = []
    for text in texts:
        gathered.append(text)
        if sum(len(part.split()) for part in gathered) >= _FULL_WORDS:
            yield " ".join(gathered)
            gathered.clear()
