"""The asynchronous client; the synchronous one (`_sync`) and the REST shim stand on it.

texts  ->  UTF-8, checked  ->  pieces in flight, bounded  ->  Triton  ->  (n, hidden) float32, in order
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from client._call import Call
from client._manifest import Manifest, parse
from client._pieces import Limits, Room, run
from client._retry import Retries, retried
from client._transport import DEFAULT_ENSEMBLE, ENSEMBLES, Transport, check_url, open_transport
from client._wire import Cut, Embeddings, check_max_length, encode, normalized
from client.errors import DeadlineExceeded, InvalidInput, ServerError, Unavailable

__all__ = ["DEFAULT_URL", "AsyncEmbeddingClient"]

DEFAULT_URL = "grpc://127.0.0.1:8001"


class AsyncEmbeddingClient:
    """Embeds texts through one server; used within one event loop, by any number of tasks.

    It connects at the first call, and again by itself after the server was away. Cancelling a call cancels all that it
    has on the way.

    There are two times. `timeout_s` is the client's: what one request may take before the server counts as stuck,
    whatever the number of texts. `deadline_s` is the caller's: what it has time for, over all pieces and attempts.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout_s: float = 60.0,
        limits: Limits | None = None,
        retries: Retries | None = None,
        ensemble: str = DEFAULT_ENSEMBLE,
        api_key: str | None = None,
        room: Room | None = None,
    ) -> None:
        """Make a client.

        Args:
            url: `grpc://HOST:PORT` or `http://HOST:PORT` of Triton, or `rest+http://HOST:PORT` of the REST shim.
            timeout_s: how long one attempt at one request (a piece of at most `limits.piece` texts) may take.
            limits: how many texts go to the server at a time; they follow its speed.
            retries: how often a request is sent that meets a server that is full or away; `Retries(attempts=1)` for
                once only.
            ensemble: the model to ask, `embedding` or `embedding_fused`; their vectors agree. The REST shim chooses for
                itself.
            api_key: for a REST shim that wants one; Triton knows none.
            room: in which calls wait, instead of one of its own with `limits`. The REST shim's refuses some.

        Raises:
            InvalidInput: not such a URL or ensemble.
        """
        check_url(url)
        if ensemble not in ENSEMBLES:
            raise InvalidInput(f"ensemble: wanted one of {', '.join(ENSEMBLES)}, got {ensemble!r}")
        self._ensemble = ensemble
        self.url = url
        self._timeout_s = timeout_s
        self._retries = retries or Retries()
        self._api_key = api_key
        self.room = room or Room(limits or Limits())
        self._transport: Transport | None = None
        self._manifest: Manifest | None = None
        self._closed = False

    async def embed(
        self,
        texts: Iterable[str],
        max_length: int | None = None,
        normalize: bool = False,
        *,
        deadline_s: float | None = None,
    ) -> NDArray[np.float32]:
        """Embed texts.

        Args:
            texts: any number; none gives an array of shape (0, hidden).
            max_length: longer texts are cut to so many tokens, the two special ones included; None means the model's
                own limit.
            normalize: scale each vector to length 1.
            deadline_s: what the whole call may take; None means as long as each request keeps to `timeout_s`.

        Returns:
            (n, hidden) float32, row i for text i.

        Raises:
            EmbeddingError: see `client.errors`.
        """
        return (await self.embed_with_tokens(texts, max_length, normalize, deadline_s=deadline_s)).vectors

    async def embed_with_tokens(
        self,
        texts: Iterable[str],
        max_length: int | None = None,
        normalize: bool = False,
        *,
        deadline_s: float | None = None,
    ) -> Embeddings:
        """Embed texts, and tell how many tokens the model saw of each. As `embed` otherwise."""
        return await self.embed_encoded(encode(texts), max_length, normalize, deadline_s)

    async def embed_encoded(
        self,
        encoded: Sequence[bytes],
        max_length: object,
        normalize: bool,
        deadline_s: float | None = None,
        call: Call | None = None,
        truncate_left: bool = False,
    ) -> Embeddings:
        """The same for texts that were checked and encoded already, by `client._wire.encode`.

        `truncate_left` cuts the beginning of what is too long, and not its end; not through the REST shim.
        """
        async with self._deadline(deadline_s) as deadline:
            answer = await self._embed(encoded, max_length, truncate_left, deadline, call or Call())
        if normalize:
            return Embeddings(normalized(answer.vectors), answer.tokens)
        if not answer.vectors.flags.writeable:
            return Embeddings(answer.vectors.copy(), answer.tokens)
        return answer

    async def _embed(
        self, encoded: Sequence[bytes], max_length: object, truncate_left: bool, deadline: float | None, call: Call
    ) -> Embeddings:
        manifest = await retried(self.info, self._retries, deadline)
        if max_length is None:
            limit = manifest.max_sequence_length
        else:
            limit = check_max_length(max_length, manifest.max_positions)
        cut = Cut(limit, truncate_left)
        if not encoded:
            return Embeddings(np.empty((0, manifest.hidden_size), np.float32), np.empty(0, np.int32))

        async def attempt(piece: Sequence[bytes]) -> Embeddings:
            try:
                with call.at_server():
                    return await self._connected().infer(piece, cut, self._timeout_s, call)
            except Unavailable:
                self._forget()
                raise

        async def send(piece: Sequence[bytes]) -> Embeddings:
            # It keeps its room while it waits: a full server gets less at a time.
            return await retried(lambda: attempt(piece), self._retries, deadline)

        answer = await run(encoded, send, self.room)
        if self._manifest is not manifest:
            # The server was away meanwhile. Vectors of two models must not stand in one answer.
            now = await retried(self.info, self._retries, deadline)
            if now.digest != manifest.digest:
                raise Unavailable(f"the model changed during the call, from {manifest.digest} to {now.digest}")
        return answer

    async def info(self, refresh: bool = False) -> Manifest:
        """What model the server runs; asks the server at the first time, after it was away, and when told to."""
        if self._manifest is None or refresh:
            self._manifest = parse(await self._connected().manifest(self._timeout_s))
        return self._manifest

    async def tokenizer(self) -> tuple[Manifest, bytes]:
        """The model that the server runs and its tokenizer.json; not through the REST shim."""
        manifest, content = await self._connected().tokenizer(self._timeout_s)
        return parse(manifest), content

    async def server_version(self) -> str:
        """The version of Triton."""
        return await self._connected().server_version(self._timeout_s)

    async def check(self, timeout_s: float) -> None:
        """Embed a text now, outside the limits: whether the service works, whatever it is busy with.

        Raises:
            EmbeddingError: why it does not.
        """
        answer = await self._connected().infer([b"ready?"], Cut(8), timeout_s, Call("readiness"))
        if not np.isfinite(answer.vectors).all():
            raise ServerError("wanted finite numbers in a vector, got others")

    async def close(self) -> None:
        """Close the connection; the client cannot be used again."""
        self._closed = True
        if self._transport is not None:
            transport, self._transport = self._transport, None
            await transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @contextlib.asynccontextmanager
    async def _deadline(self, deadline_s: float | None) -> AsyncIterator[float | None]:
        """Bound a call; gives the moment in the event loop's time."""
        try:
            async with asyncio.timeout(deadline_s) as timeout:
                yield timeout.when()
        except TimeoutError as error:
            raise DeadlineExceeded(f"no answer from {self.url} within {deadline_s} s") from error

    def _connected(self) -> Transport:
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._transport is None:
            self._transport = open_transport(self.url, self._forget, self._ensemble, self._api_key)
        return self._transport

    def _forget(self) -> None:
        """A server that was away may come back with another model."""
        self._manifest = None
