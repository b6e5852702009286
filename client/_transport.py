"""What a transport does, and which one an address means. A third one (the REST shim) would be another row here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from client._wire import Embeddings
from client.errors import InvalidInput

__all__ = ["DEFAULT_ENSEMBLE", "ENSEMBLES", "MANIFEST_STEP", "Transport", "open_transport"]

# The repository's two public models, of the same tensors and vectors. The second pools inside the graph.
ENSEMBLES = ("embedding", "embedding_fused")
DEFAULT_ENSEMBLE = "embedding_fused"
# The step that answers the manifest, as an output that is made only when it is asked for.
MANIFEST_STEP = "tokenizer"


class Transport(Protocol):
    """A connection to one Triton server. Every method raises EmbeddingError and nothing else."""

    async def infer(self, texts: Sequence[bytes], max_length: int, timeout_s: float) -> Embeddings:
        """Embed one piece: at least one UTF-8 text, at most the steps' batch limit."""

    async def manifest(self, timeout_s: float) -> bytes:
        """The manifest, as JSON."""

    async def server_version(self, timeout_s: float) -> str:
        """Triton's version."""

    async def close(self) -> None:
        """Close the connection; calls in flight fail."""


def open_transport(url: str, on_disconnect: Callable[[], None], ensemble: str) -> Transport:
    """Make a transport, in a running event loop; it connects at its first call.

    Args:
        url: `grpc://HOST:PORT` or `http://HOST:PORT`.
        on_disconnect: called when a connection that stood is lost, where the transport can see it: what was learnt
            about the server may be wrong from then on.
        ensemble: one of `ENSEMBLES`.
    """
    # Imported where it is needed: each of the two costs 0.2 s, and nobody needs both.
    address = check_url(url)
    if address.scheme == "grpc":
        from client._grpc import GrpcTransport

        return GrpcTransport(address.netloc, on_disconnect, ensemble)
    from client._http import HttpTransport

    return HttpTransport(address.netloc, ensemble)


class Address(Protocol):
    """The parts of a URL that we use."""

    @property
    def scheme(self) -> str: ...
    @property
    def netloc(self) -> str: ...


def check_url(url: str) -> Address:
    """Take an address apart.

    Raises:
        InvalidInput: not an address of that form.
    """
    wanted = f"wanted a URL like grpc://127.0.0.1:8001 or http://127.0.0.1:8000, got {url!r}"
    try:
        address = urlsplit(url)
        complete = address.scheme in {"grpc", "http"} and bool(address.hostname) and address.port is not None
    except ValueError as error:
        raise InvalidInput(wanted) from error
    if not complete or address.path.strip("/") or address.query or address.fragment or "@" in address.netloc:
        raise InvalidInput(wanted)
    return address
