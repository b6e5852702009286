"""The synchronous client: the asynchronous one in an event loop on a thread of its own."""

from __future__ import annotations

import atexit
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import numpy as np
from anyio.from_thread import BlockingPortalProvider
from numpy.typing import NDArray

from client._client import DEFAULT_URL, AsyncEmbeddingClient
from client._manifest import Manifest
from client._pieces import Limits
from client._retry import Retries
from client._transport import DEFAULT_ENSEMBLE
from client._wire import Embeddings, encode

__all__ = ["EmbeddingClient"]

# All clients of a process share one loop and thread, which live as long as any of them: gRPC's asynchronous library
# polls for all loops of a process on one socket, and several loops make each other stumble.
_PORTALS = BlockingPortalProvider()


class EmbeddingClient:
    """Embeds texts through one server; may be used by any number of threads. Close it, or use `with`.

    The arguments, results and errors of each method are those of AsyncEmbeddingClient.
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
    ) -> None:
        """Make a client; see AsyncEmbeddingClient."""
        self._client = AsyncEmbeddingClient(
            url, timeout_s=timeout_s, limits=limits, retries=retries, ensemble=ensemble, api_key=api_key
        )
        self._portal = _PORTALS.__enter__()
        self._open = True
        # At exit Python stops the loop's thread where it is, and then waits for ever for what runs in it.
        atexit.register(self.close)

    def embed(
        self,
        texts: Iterable[str],
        max_length: int | None = None,
        normalize: bool = False,
        *,
        deadline_s: float | None = None,
    ) -> NDArray[np.float32]:
        """Embed texts: (n, hidden) float32."""
        return self.embed_with_tokens(texts, max_length, normalize, deadline_s=deadline_s).vectors

    def embed_with_tokens(
        self,
        texts: Iterable[str],
        max_length: int | None = None,
        normalize: bool = False,
        *,
        deadline_s: float | None = None,
    ) -> Embeddings:
        """Embed texts, and tell how many tokens the model saw of each."""
        # The caller's thread encodes: `texts` may be a generator that waits, which must not hold up the others' loop.
        encoded = encode(texts)
        call = self._portal.start_task_soon(self._client.embed_encoded, encoded, max_length, normalize, deadline_s)
        try:
            return call.result()
        except BaseException:
            # Ctrl-C ends the waiting only; the work ends with it.
            call.cancel()
            raise

    def info(self, refresh: bool = False) -> Manifest:
        """What model the server runs."""
        return self._portal.call(self._client.info, refresh)

    def server_version(self) -> str:
        """The version of Triton."""
        return self._portal.call(self._client.server_version)

    def check(self, timeout_s: float) -> None:
        """Embed a text now, outside the limits."""
        self._portal.call(self._client.check, timeout_s)

    def close(self) -> None:
        """Close the connection; the client cannot be used again."""
        if self._open:
            self._open = False
            atexit.unregister(self.close)
            try:
                self._portal.call(self._client.close)
            finally:
                _PORTALS.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
