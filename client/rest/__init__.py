"""The REST shim: HTTP and JSON in front of Triton's gRPC. It holds no model.

    POST /embedding  ->  account  ->  key  ->  bytes, bounded  ->  JSON  ->  checked  ->  AsyncEmbeddingClient  ->  JSON
    account  ->  metrics, log, trace

Run it by `python -m client.rest`; each interface (`embedding`, `health`, `metrics`) is a router of its own in front of
the same client.
"""

from __future__ import annotations

from client.rest.app import create_app
from client.rest.settings import Settings

__all__ = ["Settings", "create_app"]
