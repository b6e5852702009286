"""What a client has noticed of its server's health by the way, from the requests that it sent.

each request's outcome  ->  when it last answered, since when it is away, how long it has let requests wait

Any answer is a sign of life, a refusal or a failure too. What is noticed is evidence, not proof: between two requests
much may have happened.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from client.errors import DeadlineExceeded, EmbeddingError, Unavailable

__all__ = ["Pulse"]


class Pulse:
    """The signs of life of one server, in seconds of a clock that only goes forward."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answered: float | None = None
        self._away: float | None = None
        self._words = ""
        self._pending = 0
        self._waiting_since = 0.0
        self._waited_s = 0.0  # before that

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Around each request."""
        if self._pending == 0:
            self._waiting_since = self._clock()
        self._pending += 1
        try:
            yield
        except DeadlineExceeded:
            raise
        except Unavailable as error:
            self._away = self._clock() if self._away is None else self._away
            self._words = str(error)
            raise
        except EmbeddingError:
            self._answer()
            raise
        else:
            self._answer()
        finally:
            self._pending -= 1
            if self._pending == 0:
                self._waited_s += self._clock() - self._waiting_since

    @property
    def silent_s(self) -> float:
        """For how long requests have waited, taken together, since the last answer."""
        return self._waited_s + (self._clock() - self._waiting_since if self._pending else 0.0)

    @property
    def away_s(self) -> float:
        """Since when it cannot be reached, or says that a process of its own is dead; 0 while it is there."""
        return 0.0 if self._away is None else self._clock() - self._away

    @property
    def answered(self) -> bool:
        """Whether it ever has."""
        return self._answered is not None

    @property
    def words(self) -> str:
        """How it was away, or is."""
        return self._words

    def answered_within(self, seconds: float) -> bool:
        """Whether there was an answer in the last so many seconds."""
        return self._answered is not None and self._clock() - self._answered <= seconds

    def _answer(self) -> None:
        self._answered = self._waiting_since = self._clock()
        self._waited_s = 0.0
        self._away = None
