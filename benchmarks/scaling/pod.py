"""A pod as a queue: requests come, those that would wait too long are refused, the rest is computed in batches.

    arrival ──► admission ──► the shim's line ──► Triton's queue ──► batch of whatever waits there ──► done
                    └► refused                    (bounded by the shim)   (max_batch texts at most)

As Triton does, a batch starts the moment the server is free, with what waits then; nothing waits for company. A burst
may wait; from the first refusal on waits are kept short, until nobody was refused for a while. A request is one piece
here: those of more texts than a piece are left out. The only events are arrivals and ends of batches, so a pod is a
loop over arrivals; whoever owns it says until when.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.scaling.traffic import Arrivals, Pool

__all__ = ["ADMISSION", "NOTHING", "UNBOUNDED", "Done", "Limits", "Pod", "closed_loop"]

NOTHING = Arrivals((), (), ())
# Of what was measured so many busy seconds ago, 1/e counts.
_PACE_MEMORY_S = 2.0


@dataclass(frozen=True)
class Limits:
    """What a pod takes.

    Attributes:
        max_batch: texts that `bert` computes at a time.
        least, at_server_s: texts that Triton may have at a time: what it computes in so many seconds, or so many.
        max_wait_s: that a request may wait at overload.
        burst_requests: that may wait in the shim all the same while there is no overload.
        calm_after_s: without a refusal, after which an overload is over.
    """

    max_batch: int
    least: int
    at_server_s: float
    max_wait_s: float
    burst_requests: float
    calm_after_s: float


# An assumption: Triton has 0.4 s of work at most, and nobody waits longer than that while requests are refused.
ADMISSION = Limits(max_batch=64, least=16, at_server_s=0.4, max_wait_s=0.4, burst_requests=64, calm_after_s=3.0)
# Nobody is refused, and one request is computed at a time: textbook queues.
UNBOUNDED = Limits(1, 1, 0.0, math.inf, math.inf, 0.0)


@dataclass(frozen=True)
class Done:
    """What happened until a moment: seconds that each request took, and how many were refused."""

    latencies_s: list[float]
    refused: int


class Pod:
    """One server that computes batches. `seconds` says how long one takes, by its texts and tokens."""

    def __init__(self, seconds: Callable[[int, int], float], limits: Limits) -> None:
        self._seconds = seconds
        self._limits = limits
        # Requests in the shim and in Triton: arrived at, texts, tokens.
        self._line: deque[tuple[float, int, int]] = deque()
        self._queue: deque[tuple[float, int, int]] = deque()
        self._waiting = 0  # texts in the line
        self._at_server = 0  # texts in the queue and in the batch
        self._batch: list[float] = []  # when each request of the batch arrived
        self._batch_texts = 0
        self._batch_s = 0.0
        self._busy_until = -math.inf
        self._started_s = 0.0  # of all batches that were started
        self._pace_s = self._pace_texts = 0.0
        self._refused_at = -math.inf
        self.texts = 0
        self.requests = 0

    @property
    def inside(self) -> int:
        """Requests that wait or are computed."""
        return len(self._line) + len(self._queue) + len(self._batch)

    @property
    def next_end(self) -> float:
        """When the batch ends; infinite if there is none."""
        return self._busy_until if self._batch else math.inf

    def busy_s(self, now: float) -> float:
        """Seconds that it has computed so far."""
        return self._started_s - max(0.0, self._busy_until - now)

    def advance(self, arrivals: Arrivals, until: float) -> Done:
        """Let time pass. Arrivals must lie between the last moment and this one."""
        latencies: list[float] = []
        refused = 0
        for at, texts, tokens in zip(arrivals.at, arrivals.texts, arrivals.tokens, strict=True):
            while self._batch and self._busy_until <= at:
                self._end(latencies)
            if self._refuses(at):
                refused += 1
                continue
            self._line.append((at, texts, tokens))
            self._waiting += texts
            self._hand_out()
            if not self._batch:
                self._start(at)
        while self._batch and self._busy_until <= until:
            self._end(latencies)
        return Done(latencies, refused)

    def _refuses(self, now: float) -> bool:
        limits = self._limits
        overloaded = now < self._refused_at + limits.calm_after_s
        if not overloaded and len(self._line) < limits.burst_requests:
            return False
        if (self._at_server + self._waiting) * self._pace_s <= limits.max_wait_s * self._pace_texts:
            return False
        self._refused_at = now
        return True

    def _hand_out(self) -> None:
        size: float = self._limits.least
        if self._pace_s:
            size = max(size, int(self._pace_texts / self._pace_s * self._limits.at_server_s))
        while self._line and (not self._at_server or self._at_server + self._line[0][1] <= size):
            request = self._line.popleft()
            self._waiting -= request[1]
            self._at_server += request[1]
            self._queue.append(request)

    def _start(self, now: float) -> None:
        texts = tokens = 0
        queue, batch, most = self._queue, self._batch, self._limits.max_batch
        while queue and (not batch or texts + queue[0][1] <= most):
            at, more_texts, more_tokens = queue.popleft()
            texts += more_texts
            tokens += more_tokens
            batch.append(at)
        self._batch_texts = texts
        self._batch_s = self._seconds(texts, tokens)
        self._busy_until = now + self._batch_s
        self._started_s += self._batch_s

    def _end(self, latencies: list[float]) -> None:
        end = self._busy_until
        latencies.extend([end - at for at in self._batch])
        self.requests += len(self._batch)
        self.texts += self._batch_texts
        kept = math.exp(-self._batch_s / _PACE_MEMORY_S)
        self._pace_s = self._pace_s * kept + self._batch_s
        self._pace_texts = self._pace_texts * kept + self._batch_texts
        self._at_server -= self._batch_texts
        self._batch.clear()
        self._hand_out()
        if self._queue:
            self._start(end)


def closed_loop(pod: Pod, requests: Pool, clients: int, count: int) -> tuple[list[float], float]:
    """`clients` that each send their next request as soon as they have their answer.

    Gives the latencies of `count` requests or a few more, and the seconds that they took.
    """
    latencies: list[float] = []
    sent = 0
    now = 0.0
    free = clients
    while len(latencies) < count:
        chosen = [(sent + index) % len(requests.texts) for index in range(free)]
        arrivals = Arrivals([now] * free, requests.texts[chosen].tolist(), requests.tokens[chosen].tolist())
        sent += free
        # They come now, and nothing ends before the next batch does.
        done = pod.advance(arrivals, now).latencies_s
        now = pod.next_end
        done += pod.advance(NOTHING, now).latencies_s
        free = len(done)
        latencies += done
    return latencies, now
