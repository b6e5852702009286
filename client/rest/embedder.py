"""What every route that embeds does with its texts: check them, embed them, and keep the request's account."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from client import AsyncEmbeddingClient, Embeddings, InvalidInput
from client._manifest import Manifest
from client._wire import encode
from client.rest.account import account_of
from client.rest.body import unless_disconnected
from client.rest.settings import Settings

__all__ = ["Embedder"]


class Embedder:
    """The one function that the interfaces are views over, and what they ask about the model."""

    def __init__(self, client: AsyncEmbeddingClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    async def model(self) -> Manifest:
        """The model that is served; from memory, unless Triton was away since."""
        return await self._client.info()

    async def embed(
        self, request: Request, texts: Sequence[str], max_length: int | None, normalize: bool, field: str = "texts"
    ) -> Embeddings:
        """Embed a request's texts, in order.

        Args:
            request: whose body was read; its account gets texts, tokens and times.
            texts: at least one.
            max_length: tokens kept of each; None means the model's own limit.
            normalize: scale each vector to length 1.
            field: what the caller calls the texts, for messages.

        Returns:
            vectors (n, hidden) float32, tokens (n,) int32.

        Raises:
            EmbeddingError: see `client.errors`.
            ClientDisconnect: nobody waits for the answer any more.
        """
        account = account_of(request)
        account.texts = len(texts)
        if len(texts) > self._settings.max_texts:
            raise InvalidInput(f"{field}: wanted at most {self._settings.max_texts}, got {len(texts)}")
        work = self._client.embed_encoded(encode(texts), max_length, normalize, call=account.call)
        if len(texts) > self._settings.texts_per_piece:
            answer = await unless_disconnected(request, work)
        else:
            answer = await work
        account.tokens = int(answer.tokens.sum())
        account.digest = (await self.model()).digest
        return answer
