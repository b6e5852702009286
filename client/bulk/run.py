"""A run: rows in batches, batches in flight, blocks in order.

main thread   source -> batches -> [queue of answers to come] -> output
loop thread                            batch -> Window -> try again while the server is full or away -> vectors

Reading and writing stay in the main thread, so that a slow pipe holds up nothing that is in flight, and Ctrl-C ends a
wait for any of it.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from anyio.from_thread import BlockingPortal

from client._client import AsyncEmbeddingClient
from client._retry import Retries, retried
from client._wire import UNKNOWN_TOKENS, Embeddings, encode
from client.bulk.adaptive import Window
from client.bulk.part import Output
from client.bulk.readers import Row, Source
from client.bulk.writers import Block
from client.errors import InvalidInput, ServerError

__all__ = ["BAD_ROWS", "Run", "Totals"]

BAD_ROWS = ("error", "skip", "null")
# The server may be full or away for long; the deadline ends the attempts, not their number.
_PATIENT = Retries(attempts=1_000_000, first_s=0.25, most_s=15.0)
# So many bad rows are named; the rest are counted.
_NAMED = 20


@dataclass
class Totals:
    """What a run did."""

    texts: int = 0
    tokens: int = 0
    bad: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Run:
    """One run's settings.

    Attributes:
        max_length: in tokens.
        normalize: scale each vector to length 1.
        digest: of the model that the run began with; another one ends it.
        hidden: the width of a vector.
        bad_rows: `error` ends the run at the first; `skip` leaves them out; `null` keeps their places empty.
        batch_size: texts in one request.
        concurrency: requests in flight at most.
        patience_s: how long a batch is tried while the server is full or away.
    """

    max_length: int
    normalize: bool
    digest: str
    hidden: int
    bad_rows: str
    batch_size: int
    concurrency: int
    patience_s: float

    def embed(
        self,
        portal: BlockingPortal,
        client: AsyncEmbeddingClient,
        source: Source,
        output: Output,
        on_block: Callable[[int], None],
        on_bad_row: Callable[[str], None],
    ) -> Totals:
        """Embed all rows that are left.

        What was answered before an error is written.

        Args:
            portal: of the loop in which the client lives.
            client: makes one attempt per request; the run tries again itself.
            source: rows.
            output: takes blocks in order.
            on_block: told of each block's number of input rows.
            on_bad_row: told of rows without a text, unless they end the run.

        Raises:
            EmbeddingError: a mistake in the input, or of the server.
        """
        totals = Totals()
        window = portal.call(self._window)
        pending: collections.deque[tuple[list[Row], Future[Embeddings]]] = collections.deque()

        async def send(texts: list[bytes]) -> Embeddings:
            deadline = asyncio.get_running_loop().time() + self.patience_s
            return await retried(lambda: window.run(lambda: self._attempt(client, texts)), _PATIENT, deadline)

        def write_first() -> None:
            rows, answer = pending[0]
            block = self._block(rows, answer.result())
            output.append(rows, block)
            pending.popleft()
            totals.texts += sum(row.text is not None for row in rows)
            totals.tokens += int(block.tokens[block.tokens != UNKNOWN_TOKENS].sum())
            on_block(len(rows))

        mistake = None
        try:
            try:
                for rows in _batches(source.rows, self.batch_size):
                    good = [row.text for row in rows if row.text is not None]
                    if len(good) < len(rows):
                        self._judge(source.name, rows, totals, on_bad_row)
                    pending.append((rows, portal.start_task_soon(send, encode(good))))
                    # Twice as many as may be in flight, so that one that is late does not leave the server idle.
                    while len(pending) >= 2 * self.concurrency or (pending and pending[0][1].done()):
                        write_first()
            except InvalidInput as error:
                mistake = error
            while pending:
                write_first()
        finally:
            for _, answer in pending:
                answer.cancel()
        if mistake is not None:
            raise mistake
        totals.refused = window.refused
        return totals

    async def _window(self) -> Window:
        return Window(self.concurrency)

    async def _attempt(self, client: AsyncEmbeddingClient, texts: Sequence[bytes]) -> Embeddings:
        if (await client.info()).digest != self.digest:
            raise ServerError(f"wanted the model {self.digest}, with which this run began; the server has another now")
        return await client.embed_encoded(texts, self.max_length, self.normalize)

    def _judge(self, name: str, rows: Sequence[Row], totals: Totals, on_bad_row: Callable[[str], None]) -> None:
        for row in rows:
            if row.text is None:
                words = f"{name}, {row.place}: {row.problem}"
                if self.bad_rows == "error":
                    raise InvalidInput(words)
                totals.bad += 1
                if totals.bad <= _NAMED:
                    on_bad_row(words)

    def _block(self, rows: Sequence[Row], answer: Embeddings) -> Block:
        """The rows that had a text have a vector; the others are left out, or empty."""
        good = np.array([row.text is not None for row in rows], bool)
        if good.all() or self.bad_rows == "skip":
            return Block([row.text for row in rows if row.text is not None], answer.vectors, answer.tokens)
        vectors = np.full((len(rows), self.hidden), np.nan, np.float32)
        tokens = np.full(len(rows), UNKNOWN_TOKENS, np.int32)
        vectors[good], tokens[good] = answer.vectors, answer.tokens
        return Block([row.text for row in rows], vectors, tokens)


def _batches(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while batch := list(itertools.islice(rows, size)):
        yield batch
