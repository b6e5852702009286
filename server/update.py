"""`python -m server.update`, what scripts/update runs: tell a running server to serve another model repository."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from server.settings import control_socket


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 when the new model serves, 1 with the reason when the former one goes on."""
    parser = argparse.ArgumentParser(
        prog="scripts/update",
        description="Have a running server load another model repository, or the same anew, without a failed request: "
        "the former model serves until the new one embeds. Roll back with the former repository.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model_repository", type=Path, metavar="DIRECTORY", help="a whole export, see python -m export")
    parser.add_argument("--http-port", type=int, default=8000, help="the server's port of Triton's HTTP")
    parser.add_argument(
        "--control-socket", type=Path, default=os.environ.get("EMBEDDING_CONTROL_SOCKET"), help="the server's, if given"
    )
    options = parser.parse_args(arguments)
    path = options.control_socket or control_socket(options.http_port)
    try:
        return _order(path, options.model_repository.expanduser().resolve())
    except OSError as error:
        sys.stderr.write(f"update: no server listens on {path}: {error.strerror}; is it running, on that port?\n")
        return 1


def _order(path: Path, repository: Path) -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(json.dumps({"model_repository": str(repository)}).encode() + b"\n")
        for line in connection.makefile("rb"):
            match json.loads(line):
                case {"progress": str(words)}:
                    sys.stdout.write(f"update: {words}\n")
                    sys.stdout.flush()
                case {"done": _}:
                    sys.stdout.write("update: done, the former model has stopped\n")
                    return 0
                case {"failed": str(words)}:
                    sys.stderr.write(f"update: failed, the former model goes on: {words}\n")
                    return 1
    sys.stderr.write("update: the server ended before it answered\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
