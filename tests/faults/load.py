"""Traffic that checks every vector that it gets, and keeps an account of every request.

known texts with known vectors  ->  requests of some clients, who pause between two  ->  an Answer for each

Two ways in, without any retries here: the REST shim, and Triton's gRPC, there by the ensemble `embedding`, which goes
through all three steps (the shim asks `embedding_fused`, which needs no pooling step).
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
import numpy as np
import orjson
from numpy.typing import NDArray

from client import AsyncEmbeddingClient, EmbeddingError, Retries

__all__ = ["WAYS", "Answer", "Known", "Load"]

WAYS = ("rest", "grpc")
MAX_LENGTH = 128
# The project's bar for two vectors being the same.
TOLERANCE = 1e-5
# A client's mean pause.
_PAUSE_S = 0.1
# No request waits longer for its answer.
_TIMEOUT_S = 60.0
# So many good answers on each way make them warm.
_SETTLED = 20


@dataclass(frozen=True)
class Known:
    """Texts, and each one's raw vector by each model that may serve: (n, hidden) float32, cut at MAX_LENGTH tokens."""

    texts: Sequence[str]
    models: Sequence[NDArray[np.float32]]

    def model_of(self, places: Sequence[int], vectors: NDArray[np.float32]) -> int | None:
        """The model of which all these vectors are; None if they are of none, or of several."""
        for model, wanted in enumerate(self.models):
            if vectors.shape == wanted[places].shape and np.allclose(vectors, wanted[places], rtol=0, atol=TOLERANCE):
                return model
        return None


@dataclass(frozen=True)
class Answer:
    """One request's fate.

    Attributes:
        way: of WAYS.
        began_s: by time.monotonic().
        took_s: until the answer was there, or the failure.
        outcome: "ok", "wrong" (a vector that is not the text's), the status of a refusal, or what broke the connection.
        retry_after: a refusal told when to come back.
        model: by which model the vectors are, a place in `Known.models`.
    """

    way: str
    began_s: float
    took_s: float
    outcome: str
    retry_after: bool = False
    model: int | None = None

    @property
    def ended_s(self) -> float:
        return self.began_s + self.took_s


Ask = Callable[[Sequence[str]], Awaitable[tuple[str, bool, NDArray[np.float32] | None]]]


class Load:
    """Runs in a thread of its own within the `with` block; `answers` grows meanwhile."""

    def __init__(
        self,
        rest_url: str,
        grpc_url: str,
        known: Known,
        clients: int = 3,
        seed: int = 0,
    ) -> None:
        """Args:
        clients: on each way. They wait for their answers, so that a slow machine gets less to do.
        """
        self.answers: list[Answer] = []
        self._rest_url = rest_url
        self._grpc_url = grpc_url
        self._known = known
        self._clients = clients
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure is not None and exception is None:
            raise self._failure

    def settle(self) -> None:
        """Wait until both ways are warm."""
        deadline = time.monotonic() + _TIMEOUT_S
        while min(self._good(way) for way in WAYS) < _SETTLED:
            assert time.monotonic() < deadline, self.answers[-20:]
            assert self._thread.is_alive(), self._failure
            time.sleep(0.1)

    def _good(self, way: str) -> int:
        return sum(answer.way == way and answer.outcome == "ok" for answer in list(self.answers))

    async def _run(self) -> None:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session,
                AsyncEmbeddingClient(
                    self._grpc_url, ensemble="embedding", timeout_s=_TIMEOUT_S, retries=Retries(attempts=1)
                ) as client,
                asyncio.TaskGroup() as group,
            ):
                ways = {"rest": self._rest(session), "grpc": self._grpc(client)}
                for way, ask in ways.items():
                    for _ in range(self._clients):
                        group.create_task(self._send(way, ask))
        except BaseException as failure:  # told to the thread that waits for us
            self._failure = failure

    async def _send(self, way: str, ask: Ask) -> None:
        while not self._stop.is_set():
            await self._one(way, ask)
            await asyncio.sleep(self._random.uniform(0, 2 * _PAUSE_S))

    async def _one(self, way: str, ask: Ask) -> None:
        places = [self._random.randrange(len(self._known.texts)) for _ in range(self._random.randint(1, 3))]
        began = time.monotonic()
        outcome, retry_after, vectors = await ask([self._known.texts[place] for place in places])
        took, model = time.monotonic() - began, None
        if vectors is not None:
            model = self._known.model_of(places, vectors)
            outcome = "wrong" if model is None else "ok"
        self.answers.append(Answer(way, began, took, outcome, retry_after, model))

    def _rest(self, session: aiohttp.ClientSession) -> Ask:
        async def ask(texts: Sequence[str]) -> tuple[str, bool, NDArray[np.float32] | None]:
            try:
                async with session.post(
                    f"{self._rest_url}/embedding", json={"texts": list(texts), "max_length": MAX_LENGTH}
                ) as response:
                    body = await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                return type(error).__name__, False, None
            if response.status != 200:
                return str(response.status), "Retry-After" in response.headers, None
            return "", False, np.array(orjson.loads(body)["embeddings"], np.float32)

        return ask

    def _grpc(self, client: AsyncEmbeddingClient) -> Ask:
        async def ask(texts: Sequence[str]) -> tuple[str, bool, NDArray[np.float32] | None]:
            try:
                return "", False, await client.embed(texts, MAX_LENGTH)
            except EmbeddingError as error:
                return type(error).__name__, False, None

        return ask
