"""When a process counts as hung, and not as merely slow: arithmetic on what was seen of it.

a question to it has no answer yet  ->  looks at it, at even intervals  ->  still at work, or hung

It is at work as long as it finishes requests, uses processor time, or wants to: an overloaded server, a batch that
takes a minute, or a machine with too little processor time is no hang. A stopped or deadlocked process does nothing of
that.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass

__all__ = ["HangLimits", "Look", "Patience"]

# Of one processor. Health-check threads and timers of an idle Python step of Triton take 0.1 % (measured).
_BUSY_SHARE = 0.05
# Looks in ten at which a hung process may be caught with a thread that runs: its timers do.
_CHANCE_HITS_IN_TEN = 1


@dataclass(frozen=True)
class Look:
    """What was seen of a process at one moment.

    Attributes:
        at_s: when, by a clock that only goes forward.
        finished: requests that it has answered well so far.
        cpu_s: processor time that it has used so far.
        runnable: a thread of it runs, waits for a processor, or waits for a disk.
    """

    at_s: float
    finished: int
    cpu_s: float
    runnable: bool


@dataclass(frozen=True)
class HangLimits:
    """How long a question may stay without an answer, in seconds.

    Attributes:
        idle_s: while nothing is finished and no processor time is used.
        busy_s: while nothing is finished.
        look_s: between two looks.
    """

    idle_s: float
    busy_s: float
    look_s: float = 0.5


class Patience:
    """Follows one process while a question to it is unanswered."""

    def __init__(self, limits: HangLimits) -> None:
        self._limits = limits
        # Counted in looks and not in seconds: who looks may itself have been stopped in between.
        self._busy: collections.deque[bool] = collections.deque(maxlen=max(1, round(limits.idle_s / limits.look_s)))
        self._looks = 0
        self._last: Look | None = None

    def hangs(self, look: Look) -> bool:
        """Take another look into account; whether it counts as hung now."""
        last, self._last = self._last, look
        if last is None or look.finished != last.finished:
            self._busy.clear()
            self._looks = 0
            return False
        used = (look.cpu_s - last.cpu_s) / max(look.at_s - last.at_s, 1e-3)
        self._busy.append(look.runnable or used >= _BUSY_SHARE)
        self._looks += 1
        still = len(self._busy) == self._busy.maxlen and 10 * sum(self._busy) <= _CHANCE_HITS_IN_TEN * len(self._busy)
        return still or self._looks * self._limits.look_s >= self._limits.busy_s
