"""Where the design breaks first, in closed forms: connections that are dealt unevenly, caches that each pod has alone.

These say how much is lost; the simulation of the cluster says what it costs in time.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["busiest_share", "che_time", "hit_ratio", "requests_until", "resolve_s", "warm_hit_ratio", "zipf"]

_DRAWS = 4000


def busiest_share(pods: int, connections: int, seed: int = 0) -> float:
    """What the busiest pod gets, in shares of an even balance, when equal connections are dealt to pods at random.

    The mean of many deals.
    """
    dealt = np.random.default_rng(seed).multinomial(connections, [1 / pods] * pods, size=_DRAWS)
    return float(dealt.max(axis=1).mean() * pods / connections)


def resolve_s(pods: int, max_connection_age_s: float) -> float:
    """Mean seconds until a gRPC client (round_robin) looks for new pods: until the first of its connections is too old.

    It has one to each pod; their ages are taken to be spread evenly.
    """
    return max_connection_age_s / (pods + 1)


def zipf(texts: int, exponent: float) -> NDArray[np.float64]:
    """Shares of requests of so many different texts: the k-th most wanted gets 1/k^exponent of the first."""
    weights = np.arange(1, texts + 1, dtype=np.float64) ** -exponent
    return np.asarray(weights / weights.sum())


def che_time(shares: NDArray[np.float64], entries: int) -> float:
    """For how many requests a text stays in a cache that drops the least recently used (Che's approximation).

    The T at which as many texts are expected to be asked for within T requests as there are entries.
    """
    if entries >= len(shares):
        return math.inf
    low, high = 0.0, 1.0
    while -np.expm1(-shares * high).sum() < entries:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        if -np.expm1(-shares * middle).sum() < entries:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def hit_ratio(shares: NDArray[np.float64], entries: int) -> float:
    """Share of requests that a cache of so many entries answers, once it is full."""
    time = che_time(shares, entries)
    return 1.0 if math.isinf(time) else float(-(shares * np.expm1(-shares * time)).sum())


def warm_hit_ratio(shares: NDArray[np.float64], entries: int, requests: float) -> float:
    """The same after so many requests to an empty cache."""
    time = min(float(requests), che_time(shares, entries))
    return float(-(shares * np.expm1(-shares * time)).sum())


def requests_until(shares: NDArray[np.float64], entries: int, part: float) -> float:
    """Requests that an empty cache must see until it hits `part` of what it will hit when it is full."""
    wanted = part * hit_ratio(shares, entries)
    low, high = 0.0, 1.0
    while warm_hit_ratio(shares, entries, high) < wanted:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        if warm_hit_ratio(shares, entries, middle) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2
