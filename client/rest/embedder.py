"""What every route that embeds does with its texts: check them, embed them, and keep the request's account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from starlette.requests import Request

from client import AsyncEmbeddingClient, Embeddings, InvalidInput
from client._manifest import Manifest
from client._wire import encode, normalized
from client.rest.account import account_of
from client.rest.body import while_connected
from client.rest.cache import VectorCache
from client.rest.limits import check_texts
from client.rest.memory import held_by
from client.rest.recall import Recall
from client.rest.settings import Settings
from client.rest.tokens import ServedTokenizer, check_characters, count

__all__ = ["Embedder", "TooLong"]

# What becomes of a text that is too long: its end is cut, its beginning is cut, or the request is refused.
TooLong = Literal["cut_end", "cut_start", "refuse"]


class Embedder:
    """The one function that the interfaces are views over, and what they ask about the model."""

    def __init__(self, client: AsyncEmbeddingClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self.tokenizer = ServedTokenizer(client)
        self.cache = VectorCache(settings.cache_bytes) if settings.cache_bytes else None
        self._recall = Recall(client, self.cache)

    async def model(self) -> Manifest:
        """The model that is served; from memory, unless Triton was away since."""
        return await self._client.info()

    async def embed(
        self,
        request: Request,
        texts: Sequence[str],
        max_length: int | None,
        normalize: bool,
        field: str = "texts",
        *,
        dimensions: int | None = None,
        too_long: TooLong = "cut_end",
    ) -> Embeddings:
        """Embed a request's texts, in order.

        Args:
            request: whose body was read; its account gets texts, tokens and times.
            texts: at least one.
            max_length: tokens kept of each; None means the model's own limit.
            normalize: scale each vector to length 1.
            field: what the caller calls the texts, for messages.
            dimensions: keep so many leading components; None means all.
            too_long: see `TooLong`.

        Returns:
            vectors (n, hidden or dimensions) float32, tokens (n,) int32.

        Raises:
            EmbeddingError: see `client.errors`.
            ClientDisconnect: nobody waits for the answer any more.
        """
        account = account_of(request)
        account.texts = len(texts)
        check_texts(texts, self._settings, field)
        manifest = await self.model()
        if dimensions is not None and not 1 <= dimensions <= manifest.hidden_size:
            raise InvalidInput(
                f"dimensions: wanted an integer from 1 to {manifest.hidden_size} (the model's), got {dimensions}",
                field="dimensions",
            )
        limit = manifest.max_sequence_length if max_length is None else max_length
        if too_long == "refuse":
            check_characters(texts, limit, field)

        # What the answer takes until it is sent; float32.
        held_by(request.scope).add(4 * len(texts) * manifest.hidden_size)
        async with while_connected(request):
            recalled = await self._recall.embed(encode(texts), max_length, too_long == "cut_start", account.call)
            if too_long == "refuse":
                await self._check_lengths(texts, recalled.embeddings, limit, field)
        answer = recalled.embeddings
        account.tokens = int(answer.tokens.sum())
        account.cache_hits, account.cache_misses = recalled.hits, recalled.misses
        account.digest = answer.digest
        vectors = answer.vectors if dimensions is None else np.ascontiguousarray(answer.vectors[:, :dimensions])
        return replace(answer, vectors=normalized(vectors) if normalize else vectors)

    async def _check_lengths(self, texts: Sequence[str], answer: Embeddings, limit: int, field: str) -> None:
        """Refuse texts that were cut. Only those that fill the limit can have been, so only they are counted."""
        rows = np.flatnonzero(answer.tokens >= limit).tolist()
        if not rows:
            return
        tokenizer = await self.tokenizer.load()
        counts = self.tokenizer.each(tokenizer, [texts[row] for row in rows], count)
        index = iter(rows)
        async for turn in counts:
            for number in turn:
                row = next(index)
                if number > limit:
                    raise InvalidInput(f"{field}[{row}]: wanted at most {limit} tokens, got {number}", field=field)
