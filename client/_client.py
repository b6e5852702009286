"""The asynchronous client; the synchronous one (`_sync`) and the REST shim stand on it.

texts  ->  UTF-8, checked  ->  pieces in flight, bounded  ->  Triton  ->  (n, hidden) float32, in order
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from client._call import Call
from client._manifest import Manifest, parse
from client._pieces import Limits, Room, run
from client._pulse import Pulse
from client._retry import Retries, retried
from client._server import Server
from client._transport import DEFAULT_ENSEMBLE, ENSEMBLES, Transport, check_url, open_transport
from client._wire import Cut, Embeddings, cut_of, encode, normalized
from client.errors import DeadlineExceeded, InvalidInput, ServerError, Unavailable

__all__ = ["DEFAULT_URL", "AsyncEmbeddingClient"]

DEFAULT_URL = "grpc://127.0.0.1:8001"
# Which of two servers on one port a new connection reaches is up to the kernel: so it is tried so often, with a pause.
_MOVES = 100
_MOVE_S = 0.02


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
        patience_s: float = 0.0,
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
            patience_s: how long a request whose server is away, or goes away under it, waits for a new connection, to
                be sent once more before it counts as failed. Over gRPC only.
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
        self._patience_s = patience_s
        self.room = room or Room(limits or Limits())
        self.pulse = Pulse()
        self._server: Server | None = None
        # Servers that were left for another one, until their last calls have ended.
        self._former: set[asyncio.Task[None]] = set()
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
        server = self._connected()
        with server.call():
            async with self._deadline(deadline_s) as deadline:
                answer = await self._embed(server, encoded, max_length, truncate_left, deadline, call or Call())
        if normalize:
            return replace(answer, vectors=normalized(answer.vectors))
        if not answer.vectors.flags.writeable:
            return replace(answer, vectors=answer.vectors.copy())
        return answer

    async def _embed(
        self,
        server: Server,
        encoded: Sequence[bytes],
        max_length: object,
        truncate_left: bool,
        deadline: float | None,
        call: Call,
    ) -> Embeddings:
        async def info() -> Manifest:
            return await self._info(server)

        manifest = await retried(info, self._retries, deadline)
        cut = cut_of(max_length, truncate_left, manifest)
        if not encoded:
            return Embeddings(np.empty((0, manifest.hidden_size), np.float32), np.empty(0, np.int32), manifest.digest)

        async def attempt(piece: Sequence[bytes]) -> Embeddings:
            try:
                with call.at_server(), self.pulse.request():
                    return await server.transport.infer(piece, cut, self._timeout_s, call)
            except Unavailable:
                server.forget()
                raise

        async def send(piece: Sequence[bytes]) -> Embeddings:
            # It keeps its room while it waits: a full server gets less at a time.
            return await retried(lambda: attempt(piece), self._retries, deadline)

        answer = await run(encoded, send, self.room)
        if server.manifest is not manifest:
            # The server was away meanwhile. Vectors of two models must not stand in one answer.
            now = await retried(info, self._retries, deadline)
            if now.digest != manifest.digest:
                raise Unavailable(f"the model changed during the call, from {manifest.digest} to {now.digest}")
        return replace(answer, digest=manifest.digest)

    async def info(self, refresh: bool = False) -> Manifest:
        """What model the server runs; asks the server at the first time, after it was away, and when told to."""
        server = self._connected()
        if refresh:
            server.forget()
        with server.call():
            return await self._info(server)

    async def tokenizer(self) -> tuple[Manifest, bytes]:
        """The model that the server runs and its tokenizer.json; not through the REST shim."""
        manifest, content = await self._connected().transport.tokenizer(self._timeout_s)
        return parse(manifest), content

    async def server_version(self) -> str:
        """The version of Triton."""
        return await self._connected().transport.server_version(self._timeout_s)

    async def check(self, timeout_s: float) -> None:
        """Embed a text now, outside the limits: whether the service works, whatever it is busy with.

        Raises:
            EmbeddingError: why it does not.
        """
        with self.pulse.request():
            answer = await self._connected().transport.infer(
                [b"ready?"], Cut(8), timeout_s, Call("readiness", patient=False)
            )
        if not np.isfinite(answer.vectors).all():
            raise ServerError("wanted finite numbers in a vector, got others")

    async def move(self, name: str) -> None:
        """Have later calls go to the Triton of this name (its `--id`), which shares the address with the present one.

        Calls that have begun are finished where they began. Over gRPC only.

        Raises:
            Unavailable: no connection reached it.
        """
        for _ in range(_MOVES):
            server = Server(self._open)
            with contextlib.suppress(Unavailable):
                if await server.transport.server_name(self._timeout_s) == name:
                    break
            await server.transport.close()
            await asyncio.sleep(_MOVE_S)
        else:
            raise Unavailable(f"wanted the server {name} at {self.url}, found none of that name")
        former, self._server = self._server, server
        if former is not None:
            leaving = asyncio.create_task(former.close_when_idle())
            self._former.add(leaving)
            leaving.add_done_callback(self._former.discard)

    async def settle(self) -> None:
        """Wait until no call is at a server that was left by `move`."""
        await asyncio.gather(*self._former)

    async def close(self) -> None:
        """Close the connection; the client cannot be used again."""
        self._closed = True
        for former in self._former:
            former.cancel()
        if self._server is not None:
            server, self._server = self._server, None
            await server.transport.close()

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

    async def _info(self, server: Server) -> Manifest:
        if server.manifest is not None:
            return server.manifest
        changes = server.changes
        manifest = parse(await server.transport.manifest(self._timeout_s))
        if server.changes == changes:
            server.manifest = manifest
        # Otherwise who answered may be gone already, and it must not be remembered as who is there.
        return manifest

    def _connected(self) -> Server:
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._server is None:
            self._server = Server(self._open)
        return self._server

    def _open(self, on_change: Callable[[], None]) -> Transport:
        return open_transport(self.url, on_change, self._ensemble, self._api_key, self._patience_s)
