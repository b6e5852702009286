"""`python -m client embed`: embed texts from arguments, a file or standard input.

Exit codes: 0 done, 1 the service failed or is away, 2 a mistake in the call or the input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from client._client import DEFAULT_URL
from client.bulk.command import add_arguments, embed
from client.errors import EmbeddingError, InvalidInput

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        embed(options)
    except InvalidInput as error:
        return _failed(2, str(error))
    except EmbeddingError as error:
        return _failed(1, f"{error} ({type(error).__name__})")
    except BrokenPipeError:
        # Who read our output has enough (`| head`). Python would complain when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _failed(2, f"{error.filename or 'file'}: {error.strerror}")
    except KeyboardInterrupt:
        return _failed(130, "interrupted")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m client", description="A client of the embedding service.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "embed",
        help="embed texts",
        description="Embed texts, in order. Files may be larger than memory, and a run that was interrupted goes on "
        "where it was when it is started again.",
    )
    add_arguments(command)
    server = command.add_argument_group("server")
    server.add_argument(
        "--url",
        default=DEFAULT_URL,
        help="Triton as grpc://HOST:PORT or http://HOST:PORT, or the REST shim as rest+http://HOST:PORT (%(default)s)",
    )
    server.add_argument(
        "--api-key",
        default=os.environ.get("EMBEDDING_API_KEY"),
        metavar="KEY",
        help="for a REST shim that wants one; better given as EMBEDDING_API_KEY, because others see command lines",
    )
    server.add_argument(
        "--timeout-s", type=float, default=60.0, metavar="S", help="seconds for one attempt at a request (%(default)s)"
    )
    return parser


def _failed(code: int, message: str) -> int:
    sys.stderr.write(f"python -m client: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
