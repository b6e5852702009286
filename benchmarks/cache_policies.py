"""`python -m benchmarks.cache_policies`: what two ways to choose what goes find of a stream, without a server.

Queries follow Zipf's law over 100,000 texts. "Beside documents" means that for each query so many new texts come that
are never asked for again, as when documents are indexed through the same service. The second half of the stream counts.
"""

from __future__ import annotations

import itertools
import sys
from typing import Literal

import numpy as np
from moka_py import Moka

from benchmarks.queries import shares

_TEXTS = 100_000
_QUERIES = 200_000
POLICIES: tuple[Literal["lru", "tiny_lfu"], ...] = ("lru", "tiny_lfu")


def found(policy: Literal["lru", "tiny_lfu"], size: int, exponent: float, documents: int) -> float:
    """The share of queries that a cache of `size` texts knows."""
    cache: Moka[int, bool] = Moka(size, policy=policy)
    queries = np.random.default_rng(0).choice(_TEXTS, size=_QUERIES, p=shares(_TEXTS, exponent))
    new = itertools.count(_TEXTS)
    hits = 0
    for number, query in enumerate(queries.tolist()):
        for text in (query, *itertools.islice(new, documents)):
            if cache.get(text):
                hits += number >= _QUERIES // 2
            else:
                cache.set(text, True)
    return hits / (_QUERIES / 2)


def main() -> None:
    """Print the table."""
    sys.stdout.write(f"| s | beside documents | kept, of {_TEXTS:,} | {' | '.join(POLICIES)} | the best |\n")
    sys.stdout.write("|---|---|---|---|---|---|\n")
    for exponent, documents, size in itertools.product((0.8, 1.0, 1.2), (0, 4), (1_000, 10_000)):
        rates = " | ".join(f"{found(policy, size, exponent, documents):.1%}" for policy in POLICIES)
        best = shares(_TEXTS, exponent)[:size].sum()
        sys.stdout.write(f"| {exponent} | {documents} for each query | {size:,} | {rates} | {best:.1%} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
