"""Embeddings over Triton, without tensors: texts in, float32 vectors out.

    from client import EmbeddingClient

    with EmbeddingClient("grpc://127.0.0.1:8001") as client:
        vectors = client.embed(["first text", "second text"])  # (2, hidden) float32

`AsyncEmbeddingClient` has the same methods with `await`. The command line is `python -m client`; the REST shim lives in
`client.rest`, which nothing here imports.
"""

from __future__ import annotations

from client._client import AsyncEmbeddingClient
from client._manifest import Manifest
from client._pieces import Limits
from client._retry import Retries
from client._sync import EmbeddingClient
from client._wire import Embeddings
from client.errors import (
    DeadlineExceeded,
    EmbeddingError,
    InvalidInput,
    Overloaded,
    ServerError,
    Unavailable,
)

__all__ = [
    "AsyncEmbeddingClient",
    "DeadlineExceeded",
    "EmbeddingClient",
    "EmbeddingError",
    "Embeddings",
    "InvalidInput",
    "Limits",
    "Manifest",
    "Overloaded",
    "Retries",
    "ServerError",
    "Unavailable",
    "__version__",
]

__version__ = "0.1.0"
