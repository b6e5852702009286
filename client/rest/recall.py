"""A text that comes again does not go to Triton again.

texts (n)  ->  each once  ->  known: records from memory
                          ->  the others: Triton  ->  records, kept
           ->  vectors (n, hidden) float32, tokens (n,) int32, in order, in memory of their own

Never a vector of another model (docs/adr/0007-cache.md): what is known is known of one model; whether it is the one
that is served, the client tells at once, because it watches its connection to Triton; and which one made a new vector,
the client tells with the vector. As a watched connection may have lost its other end without a word, Triton is asked
again from time to time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from client import AsyncEmbeddingClient, Embeddings
from client._call import Call
from client._manifest import Manifest
from client._wire import Cut, cut_of
from client.rest.cache import VectorCache, from_records, key_of, to_records

__all__ = ["Recall", "Recalled"]

# After so many texts, which take about 5 ms, others get their turn in the event loop.
_AT_A_TIME = 1000
# How long known texts are answered without a word from Triton. A connection to a machine that lost its power looks as
# if it stood, until something is sent.
_TRUSTED_S = 5.0


@dataclass(frozen=True)
class Recalled:
    """An answer, how many of its texts were known, and how many were looked for in vain; equal texts count each."""

    embeddings: Embeddings
    hits: int = 0
    misses: int = 0


class Recall:
    """Embeds texts through a client, equal ones once, and known ones not at all."""

    def __init__(self, client: AsyncEmbeddingClient, cache: VectorCache | None) -> None:
        """Without a cache nothing is known, and equal texts of a request are embedded once all the same."""
        self._client = client
        self._cache = cache
        self._asked_at = -math.inf

    async def embed(self, texts: Sequence[bytes], max_length: object, truncate_left: bool, call: Call) -> Recalled:
        """Embed at least one text, as the client's `embed_encoded` does; not normalised.

        Raises:
            EmbeddingError: see `client.errors`.
        """
        places: dict[bytes, int] = {}
        rows = [places.setdefault(text, len(places)) for text in texts]
        distinct = list(places)
        if self._cache is None:
            answer = await self._client.embed_encoded(distinct, max_length, False, None, call, truncate_left)
            hits = misses = 0
        else:
            answer, known = await self._recalled(self._cache, distinct, max_length, truncate_left, call)
            hits = sum(known[row] for row in rows)
            misses = len(rows) - hits
        if len(distinct) < len(rows):
            answer = Embeddings(answer.vectors[rows], answer.tokens[rows], answer.digest)
        return Recalled(answer, hits, misses)

    async def _recalled(
        self, cache: VectorCache, texts: Sequence[bytes], max_length: object, truncate_left: bool, call: Call
    ) -> tuple[Embeddings, list[bool]]:
        """The answer for texts that differ, and which of them were known."""
        model = await self._served()
        keys = await _keys(texts, cut_of(max_length, truncate_left, model))
        found = cache.find(model.digest, keys)
        known = [record is not None for record in found]
        missing = [index for index, record in enumerate(found) if record is None]
        if missing:
            unknown = [texts[index] for index in missing]
            made = await self._client.embed_encoded(unknown, max_length, False, None, call, truncate_left)
            now = made.digest
        else:
            # From memory, unless the connection to Triton has changed since.
            now = (await self._served()).digest
        if now != model.digest:
            # Another model came meanwhile. An answer is of one model, so all of it is asked of that one.
            made = await self._client.embed_encoded(texts, max_length, False, None, call, truncate_left)
            return made, [False] * len(texts)
        for start in range(0, len(missing), _AT_A_TIME):
            if start:
                await asyncio.sleep(0)
            some = slice(start, start + _AT_A_TIME)
            places, records = missing[some], to_records(made.vectors[some], made.tokens[some])
            cache.keep(now, [keys[index] for index in places], records)
            for index, record in zip(places, records, strict=True):
                found[index] = record
        return from_records([record for record in found if record is not None], model.hidden_size, now), known

    async def _served(self) -> Manifest:
        """The model that is served now."""
        now = asyncio.get_running_loop().time()
        if now - self._asked_at < _TRUSTED_S:
            return await self._client.info()
        model = await self._client.info(refresh=True)
        # Not before the answer: who asks meanwhile must not trust what it may deny.
        self._asked_at = now
        return model


async def _keys(texts: Sequence[bytes], cut: Cut) -> list[bytes]:
    keys: list[bytes] = []
    for start in range(0, len(texts), _AT_A_TIME):
        if start:
            await asyncio.sleep(0)
        keys += [key_of(text, cut) for text in texts[start : start + _AT_A_TIME]]
    return keys
