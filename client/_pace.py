"""How fast the server is: texts that come back per second, while any are on the way.

Recent times count most, so that the measure follows a machine that gets slower and texts that get longer. Time in which
nothing is on the way does not count. With few texts on the way the server is slower than it can be (a single text has
it to itself, and gets no batch), so the measure is too low rather than too high until there is a queue.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

__all__ = ["Pace"]

# What was measured so many busy seconds ago counts 1/e of what is measured now. On two cores that is ten batches or
# more, and a machine that slows down is known after a few seconds.
_MEMORY_S = 2.0


class Pace:
    """Measures one server, from what is sent to it and what comes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._on_the_way = 0
        self._since = 0.0
        self._busy_s = 0.0
        self._texts = 0.0

    @property
    def per_s(self) -> float | None:
        """Texts per second; None before the first text came back."""
        return self._texts / self._busy_s if self._texts else None

    def sent(self, texts: int) -> None:
        """So many are on the way now."""
        self._pass_time()
        self._on_the_way += texts

    def back(self, texts: int, embedded: bool) -> None:
        """So many are not on the way any more. What failed took time, and brought nothing."""
        self._pass_time()
        self._on_the_way -= texts
        if embedded:
            self._texts += texts

    def _pass_time(self) -> None:
        now = self._clock()
        if self._on_the_way:
            elapsed = now - self._since
            kept = math.exp(-elapsed / _MEMORY_S)
            self._busy_s = self._busy_s * kept + elapsed
            self._texts *= kept
        self._since = now
