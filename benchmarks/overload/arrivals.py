"""Who asks what, and when: requests of real texts in given sizes, at the moments of a Poisson process.

mix: texts per request -> share  ->  bodies  ->  (moment, body) for so many seconds, the same for the same seed
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.texts import Part, workload

__all__ = ["MIXES", "Arrival", "Request", "arrivals", "mean_size", "requests"]

# Texts per request -> share of the requests.
MIXES: dict[str, Mapping[int, float]] = {
    # Search: each query is a request. The hardest for a server that has to refuse: the most requests per second.
    "queries": {1: 1.0},
    # Search beside indexing, in small lists and in pieces of a bulk client.
    "mixed": {1: 0.75, 8: 0.2, 32: 0.05},
}
_SEED = 0


@dataclass(frozen=True)
class Request:
    """What one request asks for."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Arrival:
    """When a request comes, in seconds from the start, and which: an index."""

    at_s: float
    request: int


def mean_size(mix: Mapping[int, float]) -> float:
    """Texts per request, on average."""
    return sum(size * share for size, share in mix.items())


def requests(mix: Mapping[int, float], count: int, kind: str = "mixed", part: Part = "reporting") -> list[Request]:
    """`count` requests, each size in its share exactly (rounded), in a fixed random order."""
    sizes = [size for size, share in mix.items() for _ in range(round(share * count))]
    random.Random(_SEED).shuffle(sizes)
    texts = iter(workload(kind, sum(sizes), part))
    return [Request(list(itertools.islice(texts, size))) for size in sizes]


def arrivals(per_s: float, seconds: float, choices: int, seed: int = _SEED) -> list[Arrival]:
    """A Poisson process: independent arrivals, `per_s` on average, each of one of `choices` requests."""
    randomly = random.Random(seed)
    result = []
    now = randomly.expovariate(per_s)
    while now < seconds:
        result.append(Arrival(now, randomly.randrange(choices)))
        now += randomly.expovariate(per_s)
    return result
