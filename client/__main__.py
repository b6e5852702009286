"""`python -m client embed`: embed texts from arguments, a file or standard input.

Exit codes: 0 done, 1 the service failed or is away, 2 a mistake in the call or the input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from client import EmbeddingClient, EmbeddingError, InvalidInput
from client._client import DEFAULT_URL
from client._files import count_lines, open_sink, read_lines

__all__ = ["main"]

# Texts read, embedded and written at a time: enough for several pieces in flight, little enough for any memory.
_WINDOW = 1024
# Work shorter than this shows no progress bar.
_PROGRESS_AFTER_S = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        _embed(options)
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


def _embed(options: argparse.Namespace) -> None:
    with (
        contextlib.ExitStack() as stack,
        EmbeddingClient(options.url, timeout_s=options.timeout_s) as client,
        open_sink(options.output) as sink,
    ):
        texts, total = _texts(options, stack)
        # No rows yet, but their width: it needs the service, so a wrong address shows before anything is read.
        sink.write([], client.embed_with_tokens([]))
        # `disable=None`: no bar where standard error is not a terminal.
        bar = stack.enter_context(tqdm(total=total, unit=" texts", delay=_PROGRESS_AFTER_S, disable=None))
        while window := list(itertools.islice(texts, _WINDOW)):
            sink.write(window, client.embed_with_tokens(window, options.max_length, options.normalize))
            bar.update(len(window))


def _texts(options: argparse.Namespace, stack: contextlib.ExitStack) -> tuple[Iterator[str], int | None]:
    """The texts, and how many there are where that can be known beforehand."""
    if options.input is None:
        if not options.text:
            raise InvalidInput("texts: wanted arguments or --input, got none; --input - reads standard input")
        return iter(options.text), len(options.text)
    if options.text:
        raise InvalidInput("texts: wanted arguments or --input, got both")
    if options.input == "-":
        return read_lines(sys.stdin.buffer, "standard input"), None
    path = Path(options.input)
    file: BinaryIO = stack.enter_context(path.open("rb"))
    # A pipe can be read once only.
    total = count_lines(path) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
    return read_lines(file, options.input), total


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m client", description="A client of the embedding service.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    embed = commands.add_parser("embed", help="embed texts", description="Embed texts, in order.")
    embed.add_argument("text", nargs="*", metavar="TEXT", help="a text to embed")
    embed.add_argument("--input", metavar="FILE", help="read one text per line from a file; - is standard input")
    embed.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write to FILE.npy or FILE.jsonl instead of JSON lines to the screen",
    )
    embed.add_argument("--url", default=DEFAULT_URL, help="Triton: grpc://HOST:PORT or http://HOST:PORT (%(default)s)")
    embed.add_argument("--max-length", type=int, metavar="N", help="cut texts to N tokens (the model's own limit)")
    embed.add_argument("--normalize", action="store_true", help="scale each vector to length 1")
    embed.add_argument(
        "--timeout-s", type=float, default=60.0, metavar="S", help="seconds for one request to Triton (%(default)s)"
    )
    return parser


def _failed(code: int, message: str) -> int:
    sys.stderr.write(f"python -m client: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
