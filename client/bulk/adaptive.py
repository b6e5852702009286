"""How many requests are in flight: as many as the server takes, found as TCP finds it (AIMD).

Each window of answers adds one request; a refusal halves them. What was sent before a refusal was heard says nothing
new: a burst of refusals counts once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from client.errors import Overloaded

__all__ = ["Window"]

Result = TypeVar("Result")


class Window:
    """Bounds how much work is done at a time; used within one event loop.

    Attributes:
        refused: how often the server took no more.
    """

    def __init__(self, most: int) -> None:
        # It starts at a quarter: a small server is not met by the most, and a large one is reached within seconds.
        self._size = max(1.0, most / 4)
        self._most = most
        self._in_flight = 0
        self._changed = asyncio.Condition()
        self._cut_at = 0.0
        self.refused = 0

    @property
    def size(self) -> int:
        """How many requests may be in flight now."""
        return int(self._size)

    async def run(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do the work when there is room for it, and learn from how it ends."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._in_flight < self.size)
            self._in_flight += 1
        began, full = time.monotonic(), self._in_flight >= self.size
        try:
            result = await work()
            if full:  # else it was not the window that held us
                self._size = min(self._most, self._size + 1 / self._size)
            return result
        except Overloaded:
            self.refused += 1
            if began > self._cut_at:
                self._size = max(1.0, self._size / 2)
                self._cut_at = time.monotonic()
            raise
        finally:
            self._in_flight -= 1
            async with self._changed:
                self._changed.notify_all()
