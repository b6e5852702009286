"""A stream of search queries: real short texts, a few of which come again and again (Zipf's law).

docstrings of Python's standard library  ->  sentences of 3 to 12 words, each once  ->  the k-th is asked for in
proportion to 1 / k^s, independently of what was asked before
"""

from __future__ import annotations

import ast
import random
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Stream", "sentences", "shares"]

_WORDS = range(3, 13)


class Stream:
    """An endless stream; the same for the same seed."""

    def __init__(self, texts: list[str], exponent: float, seed: int = 0) -> None:
        self._texts = texts
        self._shares = shares(len(texts), exponent)
        self._random = np.random.default_rng(seed)

    def take(self, count: int) -> list[str]:
        """The next texts."""
        return [self._texts[rank] for rank in self._random.choice(len(self._texts), size=count, p=self._shares)]


def shares(count: int, exponent: float) -> NDArray[np.float64]:
    """What share of the stream each of `count` texts has, the most frequent first."""
    weights = 1 / np.arange(1, count + 1) ** exponent
    result: NDArray[np.float64] = weights / weights.sum()
    return result


def sentences() -> list[str]:
    """Some thousand sentences that every machine has, in a fixed random order."""
    library = Path(sysconfig.get_path("stdlib"))
    found: dict[str, None] = {}
    for file in sorted(library.rglob("*.py")):
        if not {"site-packages", "test", "tests"} & set(file.parts):
            found.update(dict.fromkeys(_sentences(file)))
    result = list(found)
    random.Random(0).shuffle(result)
    return result


def _sentences(file: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes in others' strings
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):  # the library has files that are wrong on purpose
            return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                for sentence in " ".join(paragraph.split()).split(". "):
                    if len(sentence.split()) in _WORDS:
                        yield sentence
