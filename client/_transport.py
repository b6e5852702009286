"""What a transport does, and which one an address means.

    grpc://HOST:PORT                      Triton's gRPC
    http://HOST:PORT                      Triton's HTTP
    rest+http://HOST[:PORT][/PREFIX]      the REST shim; rest+https:// behind something that speaks TLS

The scheme alone decides. Both Triton and the shim speak HTTP, and asking the server which of them it is would need it
to be there: a client is made before its server is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from client._call import Call
from client._wire import Cut, Embeddings
from client.errors import InvalidInput

__all__ = ["DEFAULT_ENSEMBLE", "ENSEMBLES", "MANIFEST_STEP", "Transport", "open_transport"]

# The repository's two public models, of the same tensors and vectors. The second pools inside the graph.
ENSEMBLES = ("embedding", "embedding_fused")
DEFAULT_ENSEMBLE = "embedding_fused"
# The step that answers the manifest, as an output that is made only when it is asked for.
MANIFEST_STEP = "tokenizer"
_REST = "rest+"


class Transport(Protocol):
    """A connection to one server. Every method raises EmbeddingError and nothing else."""

    async def infer(self, texts: Sequence[bytes], cut: Cut, timeout_s: float, call: Call) -> Embeddings:
        """Embed one piece: at least one UTF-8 text, at most the steps' batch limit."""

    async def manifest(self, timeout_s: float) -> bytes:
        """The manifest, as JSON."""

    async def tokenizer(self, timeout_s: float) -> tuple[bytes, bytes]:
        """The manifest and the tokenizer.json that belongs to it."""

    async def server_name(self, timeout_s: float) -> str:
        """What the server calls itself: Triton's `--id`."""

    async def server_version(self, timeout_s: float) -> str:
        """Triton's version."""

    async def answered(self, timeout_s: float) -> int:
        """How many requests of everybody the ensembles have answered well since Triton started; 0 by a REST shim."""

    async def close(self) -> None:
        """Close the connection; calls in flight fail."""


def open_transport(
    url: str, on_change: Callable[[], None], ensemble: str, api_key: str | None, patience_s: float
) -> Transport:
    """Make a transport, in a running event loop; it connects at its first call.

    Args:
        url: see the module.
        on_change: called when the connection was made or lost, where the transport can see it (gRPC only): what was
            learnt about the server before may be wrong from then on.
        ensemble: one of `ENSEMBLES`, for Triton.
        api_key: for the REST shim; Triton knows none.
        patience_s: how long a request waits for a server that is away, over gRPC.
    """
    # Imported where it is needed: each costs 0.2 s, and nobody needs more than one.
    address = check_url(url)
    if address.scheme == "grpc":
        from client._grpc import GrpcTransport

        return GrpcTransport(address.netloc, on_change, ensemble, patience_s)
    if address.scheme.startswith(_REST):
        from client._rest import RestTransport

        return RestTransport(url.removeprefix(_REST), api_key)
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
        InvalidInput: not an address of one of those forms.
    """
    wanted = (
        "wanted a URL like grpc://127.0.0.1:8001 or http://127.0.0.1:8000 (Triton), or rest+http://127.0.0.1:8080 "
        f"(the REST shim), got {url!r}"
    )
    try:
        address = urlsplit(url)
        port = address.port  # raises when it is none
    except ValueError as error:
        raise InvalidInput(wanted) from error
    rest = address.scheme in {f"{_REST}http", f"{_REST}https"}
    triton = address.scheme in {"grpc", "http"} and port is not None and not address.path.strip("/")
    if not (rest or triton) or not address.hostname or address.query or address.fragment or "@" in address.netloc:
        raise InvalidInput(wanted)
    return address
