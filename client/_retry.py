"""Trying again: what is tried again, how long between two attempts, and when to give up.

work  ->  Overloaded, Unavailable?  ->  wait (Retry-After and a random, growing while)  ->  work  ->  …  ->  its result

An embedding may be asked for twice, so both errors are safe to try again. The others are not worth it: a mistake stays
one, and who exceeded a time has none left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_exception,
    wait_random_exponential,
)

from client.errors import EmbeddingError, Overloaded, Unavailable

__all__ = ["Retries", "retried"]

Result = TypeVar("Result")


@dataclass(frozen=True)
class Retries:
    """How often a request is sent when the server is full or away.

    The wait before attempt n + 1 is random between 0 and `first_s` * 2^(n - 1), at most `most_s`, so that clients that
    failed together do not come back together; what the server asks for by `Retry-After` comes on top.

    Attributes:
        attempts: of each request, the first included; 1 never tries again.
    """

    attempts: int = 5
    first_s: float = 0.25
    most_s: float = 8.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 <= self.first_s <= self.most_s:
            raise ValueError(f"wanted attempts >= 1 and 0 <= first_s <= most_s, got {self}")


async def retried(work: Callable[[], Awaitable[Result]], retries: Retries, deadline: float | None = None) -> Result:
    """Do the work, again if need be.

    Args:
        work: starts one attempt.
        retries: how often and how long.
        deadline: in the event loop's time. A wait that would pass it is not begun: the error is raised at once.
    """
    if retries.attempts == 1:
        return await work()
    stop = stop_after_attempt(retries.attempts)
    if deadline is not None:
        stop = stop | stop_before_delay(deadline - asyncio.get_running_loop().time())  # type: ignore[assignment]
    again = AsyncRetrying(
        retry=retry_if_exception_type((Overloaded, Unavailable)),
        stop=stop,
        wait=wait_random_exponential(multiplier=retries.first_s, max=retries.most_s) + wait_exception(_asked_for),
        reraise=True,
    )

    async def attempt() -> Result:  # tenacity awaits what was written with `async def` only
        return await work()

    result: Result = await again(attempt)
    return result


def _asked_for(error: BaseException) -> float:
    """The seconds of Retry-After."""
    return (error.retry_after_s or 0.0) if isinstance(error, EmbeddingError) else 0.0
