"""Who is let in: a request that would wait too long for its turn is refused at once, with the time to come back.

    texts before it ÷ texts per second, measured  =  its wait   >  max_wait_s  ->  429, Retry-After

A burst is not an overload: as long as nobody was refused lately, `burst_requests` may wait however long it takes, such
as one of each of so many clients. From the first refusal on it is an overload, and waits are kept short, until nobody
had to be refused for `calm_after_s`. It is made at the cost of those who came last, too, as far as they can still be
told at once: a storm looks like a burst for its first tenth of a second.

That is for first pieces, so for every request. One of several pieces shares half of the server with others of its kind;
it is also refused where it would take more than `max_slowdown` times longer than with all of the server to itself.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from client._pace import Pace
from client._pieces import Limits, Line, Room, Turn
from client.errors import Overloaded

__all__ = ["Admission", "Patience"]

_log = logging.getLogger(__name__)

# For how long a refused request counts as one that will come again.
_MEMORY_S = 5.0
_MOST_RETRY_AFTER_S = 30
# Who has waited no longer is refused "at once".
_AT_ONCE_S = 0.1


@dataclass(frozen=True)
class Patience:
    """How long waits may be.

    Attributes:
        max_wait_s: until the first pieces before a request's own are done, at overload.
        burst_requests: that may wait all the same while there is no overload.
        calm_after_s: without a refusal, until an overload is over.
        max_slowdown: how many times longer than alone a request of several pieces may take, at overload.
    """

    # max_wait_s is a little more than Limits.at_server_s takes with one text each: the server is never idle for it, and
    # who is let in at ten times the capacity waits less than three times as long as at 0.8 times (docs/overload.md).
    # burst_requests is the number of clients, each with a request at a time, that are served however slow the machine.
    max_wait_s: float = 0.4
    burst_requests: int = 64
    calm_after_s: float = 3.0
    max_slowdown: float = 5.0


class Admission(Room):
    """Room at the server that takes only those who need not wait too long."""

    def __init__(
        self,
        limits: Limits,
        patience: Patience,
        clock: Callable[[], float] = time.monotonic,
        randomly: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(limits, Pace(clock))
        self._patience = patience
        self._clock = clock
        self._random = randomly
        self._first = _Overload("requests", patience.calm_after_s, clock)
        self._shared = _Overload("requests of several pieces", patience.calm_after_s, clock)

    @property
    def refused(self) -> int:
        """Requests, since the start."""
        return self._first.refused + self._shared.refused

    @property
    def overloaded(self) -> bool:
        """Whether somebody was refused lately."""
        return self._first.lasts() or self._shared.lasts()

    def wait_s(self) -> float:
        """How long it will take until all first pieces are done that are before those of a request that comes now."""
        first = self.first.on_the_way + self.first.waiting
        if (per_s := self.pace.per_s) is None:
            # Nothing is known yet. A storm right after the start is bounded by the patience for bursts.
            return math.inf if first else 0.0
        # Later pieces take turns with them, so they delay them by no more than as much again, however many they are.
        return (first + min(first, sum(self.calls.values()))) / per_s

    def refusal(self) -> Overloaded | None:
        """Whether any request that came now would be refused, whatever it asks for; then it counts as refused.

        For those who know only that somebody comes: it is cheap, and no body need be read for it.
        """
        overloaded = self._first.lasts()
        if not overloaded and len(self.first.turns) < self._patience.burst_requests:
            return None
        if (wait_s := self.wait_s()) <= self._patience.max_wait_s:
            return None
        refusal = self._refuse(self._first, 1, wait_s)
        if not overloaded:
            self._refuse_the_latest()
        return refusal

    def admit(self, texts: int) -> None:
        """Let a request of so many texts in.

        Raises:
            Overloaded: it would wait too long.
        """
        refusal = self.refusal()
        if refusal is None and texts > self.piece:
            refusal = self._sharing_refusal(texts)
        if refusal is not None:
            raise refusal

    def wait(self, turn: Turn, line: Line) -> None:
        """Wait in a line, and remember since when."""
        turn.since = self._clock()
        super().wait(turn, line)

    def _refuse_the_latest(self) -> None:
        """The patience for bursts ends, also for those who just came."""
        at_once = self._clock() - _AT_ONCE_S
        while (
            self.pace.per_s is not None
            and self.first.turns
            and (turn := self.first.turns[-1]).since >= at_once
            and turn.refuse is not None
            and (wait_s := self.wait_s()) > self._patience.max_wait_s
        ):
            self.leave(turn, self.first)
            turn.refuse(self._refuse(self._first, 1, wait_s))

    def _sharing_refusal(self, texts: int) -> Overloaded | None:
        # They take turns, so that none delays another by more than that one's own size.
        before = sum(min(left, texts) for left in self.calls.values())
        if not self._shared.lasts() and before <= self._patience.burst_requests * self.limits.least_piece:
            return None
        if before <= (self._patience.max_slowdown - 1) * texts:
            return None
        return self._refuse(self._shared, texts, before / (self.pace.per_s or 1.0))

    def _refuse(self, overload: _Overload, texts: int, wait_s: float) -> Overloaded:
        """Count it, and say when to come back: at a random moment of the time that all who were refused will need.

        All at one moment would be the next overload.
        """
        per_s = self.pace.per_s or 1.0
        needed_s = min(_MOST_RETRY_AFTER_S, wait_s + overload.refuse(texts, per_s) / per_s)
        return Overloaded("too many texts wait", 1 + self._random() * needed_s)


class _Overload:
    """Refusals of one kind."""

    def __init__(self, whose: str, calm_after_s: float, clock: Callable[[], float]) -> None:
        self.refused = 0
        self._whose = whose
        self._calm_after_s = calm_after_s
        self._clock = clock
        self._last_at = -math.inf
        self._turned_away = 0.0  # texts, those of longer ago less
        self._before = 0  # refused before this overload, while there is one
        self._lasts = False

    def lasts(self) -> bool:
        """Whether somebody was refused lately."""
        if self._lasts and self._clock() >= self._last_at + self._calm_after_s:
            self._lasts = False
            _log.info("the overload is over: %d %s were refused", self.refused - self._before, self._whose)
        return self._lasts

    def refuse(self, texts: int, per_s: float) -> float:
        """Count a refusal; gives the texts that were refused lately."""
        if not self.lasts():
            self._lasts, self._before = True, self.refused
            _log.warning("overload: %s are refused; the server embeds %.0f texts a second", self._whose, per_s)
        now = self._clock()
        self._turned_away = self._turned_away * math.exp((self._last_at - now) / _MEMORY_S) + texts
        self._last_at = now
        self.refused += 1
        return self._turned_away
