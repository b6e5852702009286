"""The question that tells whether Triton serves: a real embedding. `python -m server.probe` asks it once.

Triton says READY while the process of a step is dead, so its own health is no answer. Exit code 0: embedded; 1: not,
with the reason on stderr. Asked by the container's health check and by Kubernetes' startup probe, with the settings
(and so the environment) of the server beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence

from server import settings as server_settings

__all__ = ["EMBEDDING", "embed", "main"]

EMBEDDING = {
    "inputs": [
        {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["ready?"]},
        {"name": "MAX_LENGTH", "shape": [1, 1], "datatype": "INT32", "data": [8]},
    ]
}


def embed(url: str, timeout_s: float) -> None:
    """Embed a text through Triton's HTTP server. With the standard library: it starts in 0.1 s, a tenth of httpx.

    Raises:
        OSError: no answer in time, or a refusal.
    """
    request = urllib.request.Request(
        f"{url}/v2/models/embedding/infer",
        data=json.dumps(EMBEDDING).encode(),
        headers={"Content-Type": "application/json"},
    )
    # Never through a proxy of the environment: it is this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=timeout_s) as answer:
        outputs = {output["name"]: output["data"] for output in json.load(answer)["outputs"]}
    if not outputs.get("EMBEDDING"):
        raise OSError(f"wanted a vector in EMBEDDING, got the outputs {sorted(outputs)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask once, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m server.probe", description="Embed a text through Triton, once.")
    parser.add_argument("--timeout-s", type=float, default=5.0, help="seconds to wait for the vector (%(default)s)")
    options = parser.parse_args(arguments)
    settings = server_settings.parse([])
    url = f"http://{settings.probe_host}:{settings.http_port}"
    try:
        embed(url, options.timeout_s)
    except urllib.error.HTTPError as error:
        sys.stderr.write(f"{url}: {error.code} {error.read(500).decode(errors='replace')}\n")
        return 1
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
