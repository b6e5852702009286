"""One call as many pieces: bounded, fair between calls, in order.

Triton takes a batch at most, so a call of many texts goes as pieces. How many texts may be in flight is bounded twice:
over all calls, so that what waits waits here, in turn, and not in Triton's queues, and per call, so that what a big
call has already sent delays a small one only little. Calls wait for room in one queue, each with its next piece only:
so they take turns, and a call of 10,000 texts delays the others by a piece, not by 10,000 texts.
"""

from __future__ import annotations

import asyncio
import collections
import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

from client._wire import Embeddings, pieces
from client.errors import EmbeddingError

__all__ = ["Limits", "Room", "run"]

Send = Callable[[Sequence[bytes]], Awaitable[Embeddings]]


@dataclass(frozen=True)
class Limits:
    """How much goes to Triton at a time, in texts.

    Attributes:
        piece: in one Triton request; at most the steps' max_batch_size.
        call: in flight of one call.
        total: in flight of all calls of one client. Triton's own queues have no bound.
    """

    # On two CPU cores (MiniLM, real mixed texts) 32 and 64 embedded 512 texts as fast as 64 and 128 did, and a single
    # text beside them took half as long, because it waits for what the big call has in Triton. A GPU wants more.
    piece: int = 32
    call: int = 64
    total: int = 256

    def __post_init__(self) -> None:
        if not 1 <= self.piece <= self.call <= self.total:
            raise ValueError(f"wanted 1 <= piece <= call <= total, got {self}")


class Room:
    """Room for a number of texts, given out in the order in which it is asked for.

    A semaphore of asyncio counts callers, not texts, and would let 64 texts pass for one.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: collections.deque[tuple[int, asyncio.Future[None]]] = collections.deque()

    async def take(self, texts: int) -> None:
        """Wait for room for that many texts; it must be given back."""
        if texts <= self._free and not self._waiting:
            self._free -= texts
            return
        entry = (texts, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            await entry[1]
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._hand_out()  # who stood behind a big one may fit now
            elif not entry[1].cancelled():
                self.give_back(texts)  # granted and cancelled in the same moment
            raise

    def give_back(self, texts: int) -> None:
        """Return room that `take` gave."""
        self._free += texts
        self._hand_out()

    def task_done(self, texts: int, _: asyncio.Task[None]) -> None:
        """`give_back` as the callback of a task that has ended in any way."""
        self.give_back(texts)

    def _hand_out(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            texts, granted = self._waiting.popleft()
            if not granted.done():
                self._free -= texts
                granted.set_result(None)


async def run(texts: Sequence[bytes], send: Send, limits: Limits, room: Room) -> Embeddings:
    """Send texts in pieces and put the answers together in order.

    The first error, or cancellation, cancels the pieces in flight and gives their room back.

    Args:
        texts: at least one.
        send: embeds one piece.
        limits: of this client.
        room: shared by all calls of this client; of size `limits.total`.
    """
    if len(texts) <= limits.piece:
        await room.take(len(texts))
        try:
            return await send(texts)
        finally:
            room.give_back(len(texts))
    return await _run_many(texts, send, limits, room)


async def _run_many(texts: Sequence[bytes], send: Send, limits: Limits, room: Room) -> Embeddings:
    cuts = pieces(len(texts), limits.piece)
    answers: list[Embeddings | None] = [None] * len(cuts)
    own = Room(limits.call)

    async def one(index: int) -> None:
        answers[index] = await send(texts[cuts[index]])

    try:
        async with asyncio.TaskGroup() as group:
            for index, cut in enumerate(cuts):
                size = cut.stop - cut.start
                await own.take(size)
                await room.take(size)
                task = group.create_task(one(index))
                # Not a `finally` in the task: one that is cancelled before its first step never gets there.
                for each in (own, room):
                    task.add_done_callback(functools.partial(each.task_done, size))
    except BaseExceptionGroup as failures:
        # All pieces fail alike when the server is away: the first failure is the answer.
        known, other = failures.split(EmbeddingError)
        if known is None or other is not None:
            raise
        raise _first(known) from failures
    return _joined([answer for answer in answers if answer is not None])


def _first(failures: BaseExceptionGroup[EmbeddingError]) -> EmbeddingError:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _joined(answers: Sequence[Embeddings]) -> Embeddings:
    return Embeddings(
        np.concatenate([answer.vectors for answer in answers]),
        np.concatenate([answer.tokens for answer in answers]),
    )
