"""What `client` shows is what it means to show."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import client

ROOT = Path(__file__).resolve().parents[2]


def test_all_names() -> None:
    assert client.__all__ == [
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
    assert all(hasattr(client, name) for name in client.__all__)


def test_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert client.__version__ == project["version"]


def test_the_client_does_not_import_the_shim() -> None:
    modules = "client, client.__main__, client._grpc, client._http, client._rest"
    code = f"import sys, {modules}; sys.exit('client.rest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
