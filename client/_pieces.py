"""One call as many pieces: bounded, fair between calls, in order.

Triton takes a batch at most, so a call of many texts goes as pieces; and what Triton has delays everybody, because it
works in order. So little is sent at a time, the rest waits here, and here the order can be a fair one:

    first pieces (all of a small call) ──┐ in order of arrival
                                         ├──►  at the server: some tenths of a second's work
    later pieces of big calls ───────────┘ each big call in turn

When both lines wait, the one that has less at the server is next; so each has about half of it. A single text beside
calls of 10,000 waits for a piece of them to come back, and for what they have at the server then, and for nothing else;
and no number of single texts can stop a big call.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import itertools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from client._pace import Pace
from client._wire import Embeddings, pieces
from client.errors import EmbeddingError

__all__ = ["Limits", "Room", "run"]

Send = Callable[[Sequence[bytes]], Awaitable[Embeddings]]


@dataclass(frozen=True)
class Limits:
    """How much goes to the server at a time, in texts.

    Attributes:
        piece: most in one request; at most the steps' max_batch_size.
        least_piece: in one request of several, while little may be on the way.
        least: that may be on the way however slow the server is: two pieces, so that one waits while one is embedded.
        most: that may be on the way however fast it is. Triton's own queues have no bound.
        at_server_s: between the two, as many as it embeds in so many seconds. A GPU gets more than a CPU.
    """

    # Two CPU cores embed 16 real mixed texts at a time as fast as 32 or 64 (docs/benchmarks/results.md), about 120 a
    # second, and with 48 on the way there are always so many. More on the way made nothing faster, and a single text
    # waits for all of it (docs/overload.md).
    piece: int = 32
    least_piece: int = 8
    least: int = 16
    most: int = 1024
    at_server_s: float = 0.4

    def __post_init__(self) -> None:
        if not 1 <= self.least_piece <= min(self.piece, self.least) <= self.most or self.at_server_s <= 0:
            raise ValueError(
                f"wanted 1 <= least_piece <= piece, least_piece <= least <= most, and at_server_s > 0, got {self}"
            )


class Turn:
    """A call that waits in a line: for room for each of its pieces there, one after the other.

    Attributes:
        go: told when there is room for the next piece.
        refuse: told why there will be none; only the first piece of a call can still be refused.
        since: when it came, for those who want to know.
    """

    def __init__(
        self, sizes: Iterable[int], go: Callable[[], None], refuse: Callable[[EmbeddingError], None] | None = None
    ) -> None:
        self.sizes = collections.deque(sizes)
        self.go = go
        self.refuse = refuse
        self.since = 0.0


class Line:
    """Those who wait for room, in turn, and what those who waited here have at the server; both in texts."""

    def __init__(self) -> None:
        self.turns: collections.deque[Turn] = collections.deque()
        self.waiting = 0
        self.on_the_way = 0


class Room:
    """Room at the server, in texts, given out to two lines.

    A semaphore of asyncio counts callers, not texts, and would let 64 texts pass for one.

    Attributes:
        first: the line of first pieces.
        later: the line of later pieces. It never gets all the room, so that a first piece finds some.
        small: texts that have not come back yet, of calls of one piece.
        calls: and of each other call.
        pace: how fast the server is.
    """

    def __init__(self, limits: Limits, pace: Pace | None = None) -> None:
        self.limits = limits
        self.first, self.later = Line(), Line()
        self.small = 0
        self.calls: dict[object, int] = {}
        self.pace = pace or Pace()

    @property
    def size(self) -> int:
        """How many texts may be on the way now."""
        wanted = int((self.pace.per_s or 0.0) * self.limits.at_server_s)
        return min(self.limits.most, max(self.limits.least, wanted))

    @property
    def piece(self) -> int:
        """Texts in a piece now: a quarter of the room, so that there are several, of several calls."""
        return min(self.limits.piece, max(self.limits.least_piece, self.size // 4))

    @property
    def on_the_way(self) -> int:
        """Texts at the server."""
        return self.first.on_the_way + self.later.on_the_way

    @property
    def waiting(self) -> int:
        """Texts that wait for room, those of later pieces included."""
        return self.small + sum(self.calls.values()) - self.on_the_way

    def admit(self, texts: int) -> None:
        """Whether a call of so many texts may wait here: always. Others may refuse (`client.rest.admission`)."""

    async def take(self, texts: int, line: Line) -> None:
        """Wait in one of the two lines for room for that many texts; it must be given back.

        Raises:
            EmbeddingError: there will be none.
        """
        told: asyncio.Future[EmbeddingError | None] = asyncio.get_running_loop().create_future()

        def tell(refusal: EmbeddingError | None = None) -> None:
            if not told.done():
                told.set_result(refusal)

        turn = Turn([texts], tell, tell)
        self.wait(turn, line)
        try:
            refusal = await told
        except asyncio.CancelledError:
            if turn.sizes:
                self.leave(turn, line)
            else:
                self.give_back(texts, line, embedded=False)  # granted and cancelled in the same moment
            raise
        if refusal is not None:
            raise refusal

    def wait(self, turn: Turn, line: Line) -> None:
        """Wait in a line; the turn may come at once."""
        line.turns.append(turn)
        line.waiting += sum(turn.sizes)
        self._hand_out()

    def leave(self, turn: Turn, line: Line) -> None:
        """Do not wait any longer."""
        if turn in line.turns:
            line.turns.remove(turn)
            line.waiting -= sum(turn.sizes)
            self._hand_out()  # who stood behind a big one may fit now

    def give_back(self, texts: int, line: Line, embedded: bool) -> None:
        """Return room that was given; `embedded` tells whether its texts were."""
        line.on_the_way -= texts
        self.pace.back(texts, embedded)
        self._hand_out()

    def _hand_out(self) -> None:
        while (line := self._next()) is not None:
            turn = line.turns.popleft()
            texts = turn.sizes.popleft()
            line.waiting -= texts
            line.on_the_way += texts
            self.pace.sent(texts)
            if turn.sizes:
                line.turns.append(turn)
            turn.go()

    def _next(self) -> Line | None:
        """The line whose first may go now. Who is in turn and does not fit is waited for, or it would never fit."""
        size = self.size
        lines = [self.first] if self.first.turns else []
        later = self.later
        if later.turns and (not later.on_the_way or later.on_the_way + later.turns[0].sizes[0] <= size * 3 // 4):
            lines.append(later)
        if not lines:
            return None
        line = min(lines, key=lambda line: line.on_the_way)
        fits = not self.on_the_way or self.on_the_way + line.turns[0].sizes[0] <= size
        return line if fits else None


async def run(texts: Sequence[bytes], send: Send, room: Room) -> Embeddings:
    """Send texts in pieces and put the answers together in order.

    The first error, or cancellation, cancels the pieces in flight and gives their room back.

    Args:
        texts: at least one.
        send: embeds one piece.
        room: shared by all calls of a client.
    """
    room.admit(len(texts))
    if len(texts) > (piece := room.piece):
        return await _run_many(texts, piece, send, room)
    room.small += len(texts)
    try:
        await room.take(len(texts), room.first)
        embedded = False
        try:
            answer = await send(texts)
            embedded = True
            return answer
        finally:
            room.give_back(len(texts), room.first, embedded)
    finally:
        room.small -= len(texts)


async def _run_many(texts: Sequence[bytes], piece: int, send: Send, room: Room) -> Embeddings:
    cuts = pieces(len(texts), piece)
    sizes = [cut.stop - cut.start for cut in cuts]
    answers: list[Embeddings | None] = [None] * len(cuts)
    order = itertools.count()
    all_sent = asyncio.get_running_loop().create_future()
    call = object()

    async def one(index: int) -> None:
        answers[index] = await send(texts[cuts[index]])

    def start(line: Line) -> None:
        index = next(order)
        # Not a `finally` in the task: one that is cancelled before its first step never gets there.
        group.create_task(one(index)).add_done_callback(functools.partial(done, sizes[index], line))
        if index + 1 == len(cuts) and not all_sent.done():
            all_sent.set_result(None)

    def done(size: int, line: Line, task: asyncio.Task[None]) -> None:
        embedded = not task.cancelled() and task.exception() is None
        if not embedded:
            room.leave(turn, room.later)
        room.calls[call] -= size
        room.give_back(size, line, embedded)

    room.calls[call] = len(texts)
    turn = Turn(sizes[1:], functools.partial(start, room.later))
    try:
        async with asyncio.TaskGroup() as group:
            try:
                await room.take(sizes[0], room.first)
                start(room.first)
                room.wait(turn, room.later)
                await all_sent
            finally:
                room.leave(turn, room.later)
    except BaseExceptionGroup as failures:
        # All pieces fail alike when the server is away: the first failure is the answer.
        known, other = failures.split(EmbeddingError)
        if known is None or other is not None:
            raise
        raise _first(known) from failures
    finally:
        del room.calls[call]
    return _joined([answer for answer in answers if answer is not None])


def _first(failures: BaseExceptionGroup[EmbeddingError]) -> EmbeddingError:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _joined(answers: Sequence[Embeddings]) -> Embeddings:
    return Embeddings(
        np.concatenate([answer.vectors for answer in answers]),
        np.concatenate([answer.tokens for answer in answers]),
    )
