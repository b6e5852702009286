"""From what became of each request to the figures of a level.

outcomes of the generator  ->  Level: accepted and refused, their times, goodput
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Level", "Times", "level", "recovery_s"]

_OK, _REFUSED = 200, 429
# Until the first batches come back, answers are fewer than what is embedded; at the end some are left over.
_FILL_S = 1.0


@dataclass(frozen=True)
class Times:
    """Milliseconds; NaN where there was nothing to measure."""

    p50: float
    p95: float
    p99: float
    most: float

    @classmethod
    def of(cls, seconds: NDArray[np.float64]) -> Times:
        """From seconds."""
        if not len(seconds):
            return cls(math.nan, math.nan, math.nan, math.nan)
        p50, p95, p99 = (float(value) for value in np.percentile(1000 * seconds, (50, 95, 99)))
        return cls(p50, p95, p99, float(1000 * seconds.max()))


@dataclass(frozen=True)
class Level:
    """What became of a load.

    Attributes:
        times: of the measured capacity; what was asked for.
        per_s: requests per second, asked for.
        accepted: requests that were answered with vectors.
        refused: with 429 and a time to come back.
        failed: all others, by their status; 0 is no answer, 429 one without Retry-After.
        goodput: texts per second that were answered, from the end of the first second until the level's end.
        accepted_ms: of the accepted; of those of one text in `single_ms`.
        refused_ms: until the refusal.
        retry_after_s: on average.
        share: of the requests of each size that was accepted.
        generator: processors that the load generator used.
        late_ms: how late the generator was at most.
    """

    times: float
    seconds: float
    per_s: float
    accepted: int
    refused: int
    failed: Mapping[int, int]
    goodput: float
    accepted_ms: Times
    single_ms: Times
    refused_ms: Times
    retry_after_s: float
    share: Mapping[int, float]
    generator: float
    late_ms: float


def level(times: float, per_s: float, seconds: float, outcomes: Mapping[str, Any]) -> Level:
    """The figures of one level, from what the generator answered."""
    at, latency = np.asarray(outcomes["at_s"], float), np.asarray(outcomes["latency_s"], float)
    status, texts = np.asarray(outcomes["status"], int), np.asarray(outcomes["texts"], int)
    retry_after = np.asarray(outcomes["retry_after_s"], float)
    done, full_s = at + latency, min(_FILL_S, seconds / 2)
    accepted = status == _OK
    refused = (status == _REFUSED) & ~np.isnan(retry_after)
    others = status[~accepted & ~refused]
    return Level(
        times=times,
        seconds=seconds,
        per_s=per_s,
        accepted=int(accepted.sum()),
        refused=int(refused.sum()),
        failed={int(each): int((others == each).sum()) for each in np.unique(others)},
        goodput=float(texts[accepted & (done >= full_s) & (done <= seconds)].sum() / (seconds - full_s)),
        accepted_ms=Times.of(latency[accepted]),
        single_ms=Times.of(latency[accepted & (texts == 1)]),
        refused_ms=Times.of(latency[refused]),
        retry_after_s=float(retry_after[refused].mean()) if refused.any() else math.nan,
        share={int(size): float(accepted[texts == size].mean()) for size in np.unique(texts)},
        generator=float(outcomes["cpu_s"]) / seconds,
        late_ms=1000 * float(outcomes["late_s"]),
    )


def recovery_s(outcomes: Mapping[str, Any], usual_p95_ms: float, window_s: float = 1.0) -> float:
    """After how many seconds all is as usual: nothing refused, and half of the requests within the usual p95.

    That must hold for a window, and for all that comes after it together; one slow window among usual ones, which every
    level has, begins nothing anew.

    NaN: it never was.
    """
    at, latency = np.asarray(outcomes["at_s"], float), np.asarray(outcomes["latency_s"], float)
    answered = np.asarray(outcomes["status"], int) == _OK

    def usual(inside: NDArray[np.bool_]) -> bool:
        if not inside.any():
            return False
        return bool(answered[inside].all()) and float(np.median(1000 * latency[inside])) <= usual_p95_ms

    for index in range(math.floor(at.max() / window_s) if len(at) else 0):
        later = at >= index * window_s
        if usual(later & (at < (index + 1) * window_s)) and usual(later):
            return index * window_s
    return math.nan
