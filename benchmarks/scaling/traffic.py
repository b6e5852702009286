"""What is asked: lengths of texts, texts per request, and how many a second over a day.

mix of lengths and sizes  ->  a pool of requests (texts, tokens)  ->  arrivals: a Poisson process, each a request

Requests of a Poisson process that are dealt to pods at random are a Poisson process at each pod, so a pod's arrivals
are drawn for it alone.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Arrivals", "Day", "Mix", "Pool", "Spike", "consecutive", "draw", "pool"]

# Enough that its means are those of the mix to about a percent, and few enough to draw from quickly.
POOL_SIZE = 8192


@dataclass(frozen=True)
class Mix:
    """Shares of texts by length (a workload of benchmarks.texts), and of requests by the number of their texts."""

    lengths: Mapping[str, float]
    sizes: Mapping[int, float]

    def __post_init__(self) -> None:
        for name, shares in (("lengths", self.lengths), ("sizes", self.sizes)):
            if not shares or not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-6) or min(shares.values()) < 0:
                raise ValueError(f"{name}: wanted shares that sum to 1, got {dict(shares)}")


@dataclass(frozen=True)
class Pool:
    """Requests to choose from: texts and tokens of each."""

    texts: NDArray[np.int64]
    tokens: NDArray[np.int64]

    @functools.cached_property
    def mean_texts(self) -> float:
        """Texts per request."""
        return float(self.texts.mean())

    @functools.cached_property
    def mean_tokens(self) -> float:
        """Tokens per text."""
        return float(self.tokens.sum() / self.texts.sum())


@dataclass(frozen=True)
class Arrivals:
    """Requests in order of their moments, in seconds. `index` is their place in the pool that they were drawn from."""

    at: Sequence[float]
    texts: Sequence[int]
    tokens: Sequence[int]
    index: Sequence[int] = ()


def pool(mix: Mix, token_counts: Mapping[str, Sequence[int]], count: int = POOL_SIZE, seed: int = 0) -> Pool:
    """`count` requests of a mix; `token_counts` has the tokens of real texts, by workload.

    Raises:
        ValueError: a workload has no token counts.
    """
    if missing := sorted(set(mix.lengths) - set(token_counts)):
        raise ValueError(f"wanted token counts of {', '.join(sorted(token_counts))}, got the workload {missing[0]!r}")
    randomly = np.random.default_rng(seed)
    texts = randomly.choice(list(mix.sizes), size=count, p=list(mix.sizes.values()))
    kinds = randomly.choice(len(mix.lengths), size=int(texts.sum()), p=list(mix.lengths.values()))
    lengths = np.empty(len(kinds), np.int64)
    for index, name in enumerate(mix.lengths):
        chosen = kinds == index
        lengths[chosen] = randomly.choice(token_counts[name], size=int(chosen.sum()))
    ends = np.cumsum(texts)
    tokens = np.add.reduceat(lengths, np.concatenate([[0], ends[:-1]]))
    return Pool(texts.astype(np.int64), tokens)


def consecutive(token_counts: Sequence[int], sizes: Mapping[int, float], count: int, seed: int = 0) -> Pool:
    """Requests of texts that follow each other in a list, in circles: for a load generator that has the texts."""
    texts = np.random.default_rng(seed).choice(list(sizes), size=count, p=list(sizes.values())).astype(np.int64)
    ends = np.cumsum(texts)
    tokens = np.resize(np.array(token_counts, np.int64), int(ends[-1]))
    return Pool(texts, np.add.reduceat(tokens, ends - texts))


def draw(requests: Pool, texts_per_s: float, start_s: float, end_s: float, randomly: np.random.Generator) -> Arrivals:
    """A Poisson process between two moments."""
    seconds = end_s - start_s
    count = randomly.poisson(texts_per_s / requests.mean_texts * seconds)
    at = np.sort(randomly.random(count)) * seconds + start_s
    chosen = randomly.integers(len(requests.texts), size=count)
    return Arrivals(at.tolist(), requests.texts[chosen].tolist(), requests.tokens[chosen].tolist(), chosen.tolist())


@dataclass(frozen=True)
class Spike:
    """So many times the load, from one second to the next, for a while."""

    at_s: float
    seconds: float
    factor: float

    def at(self, now_s: float) -> float:
        """How many times the load it is at this moment."""
        return self.factor if self.at_s <= now_s < self.at_s + self.seconds else 1.0


@dataclass(frozen=True)
class Day:
    """Texts per second over a day: least at 2:00, most at 14:00, a cosine between, and a spike on top."""

    least_per_s: float
    most_per_s: float
    spike: Spike

    def per_s(self, now_s: float) -> float:
        """Texts per second at this moment."""
        height = (1 - math.cos(2 * math.pi * (now_s - 2 * 3600) / 86_400)) / 2
        return (self.least_per_s + (self.most_per_s - self.least_per_s) * height) * self.spike.at(now_s)
