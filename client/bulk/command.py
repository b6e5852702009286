"""`python -m client embed`: from its options to a run, its progress bar and its summary."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from anyio.from_thread import start_blocking_portal
from tqdm import tqdm

from client._client import AsyncEmbeddingClient
from client._manifest import Manifest
from client._pieces import Limits
from client._retry import Retries, retried
from client._wire import check_max_length
from client.bulk.part import Output, Part, Stream
from client.bulk.readers import FORMATS, Source, format_of, from_texts, open_source
from client.bulk.run import BAD_ROWS, Run, Totals
from client.bulk.writers import JsonLines, writer_for
from client.errors import InvalidInput

__all__ = ["add_arguments", "embed"]

# Work shorter than this shows no progress bar.
_PROGRESS_AFTER_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `embed` that say what to read and write, and how."""
    parser.add_argument("text", nargs="*", metavar="TEXT", help="a text to embed")
    files = parser.add_argument_group("files")
    files.add_argument("--input", metavar="FILE", help="read texts from a file; - is standard input")
    files.add_argument(
        "--input-format",
        choices=FORMATS,
        help="by default what the name says: .jsonl, .csv, .tsv, .parquet; others have one text per line",
    )
    files.add_argument(
        "--field",
        "--column",
        default="text",
        metavar="NAME",
        help="the field or column with the text, in JSON lines, CSV and Parquet (%(default)s)",
    )
    files.add_argument(
        "--bad-rows",
        choices=BAD_ROWS,
        default="error",
        help="rows without a text (null, another type, no such field, not UTF-8): end at the first, leave them out, or "
        "keep their places, with null in .jsonl and NaN elsewhere (%(default)s)",
    )
    files.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write to FILE.npy, FILE.jsonl or FILE.parquet instead of JSON lines to the screen; the same command goes "
        "on with a run that was interrupted",
    )
    files.add_argument("--restart", action="store_true", help="throw away what an interrupted run has done")
    files.add_argument("--quiet", action="store_true", help="no progress bar and no summary")
    vectors = parser.add_argument_group("vectors")
    vectors.add_argument("--max-length", type=int, metavar="N", help="cut texts to N tokens (the model's own limit)")
    vectors.add_argument("--normalize", action="store_true", help="scale each vector to length 1")
    pace = parser.add_argument_group("pace")
    pace.add_argument(
        "--batch-size", type=_positive, default=32, metavar="N", help="texts in one request (%(default)s)"
    )
    pace.add_argument(
        "--concurrency",
        type=_positive,
        default=8,
        metavar="N",
        help="requests in flight at most; fewer when the server takes fewer (%(default)s)",
    )
    pace.add_argument(
        "--patience-s",
        type=float,
        default=300.0,
        metavar="S",
        help="seconds that a request is tried again while the server is full or away (%(default)s)",
    )


def embed(options: argparse.Namespace) -> None:
    """Do what the options say.

    Raises:
        EmbeddingError: see `client.errors`.
        OSError: of a file.
    """
    if options.input is None and not options.text:
        raise InvalidInput("texts: wanted arguments or --input, got none; --input - reads standard input")
    if options.input is not None and options.text:
        raise InvalidInput("texts: wanted arguments or --input, got both")
    # The window decides how many requests are in flight, by what the server says.
    in_flight = options.batch_size * options.concurrency
    client = AsyncEmbeddingClient(
        options.url,
        timeout_s=options.timeout_s,
        limits=Limits(piece=options.batch_size, least_piece=options.batch_size, least=in_flight, most=in_flight),
        retries=Retries(attempts=1),
        api_key=options.api_key,
    )

    async def info() -> Manifest:
        return await retried(client.info, Retries())

    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(client),
        contextlib.ExitStack() as stack,
    ):
        # Asked first, so that a wrong address shows before anything is read.
        manifest = portal.call(info)
        run = Run(
            max_length=manifest.max_sequence_length
            if options.max_length is None
            else check_max_length(options.max_length, manifest.max_positions),
            normalize=options.normalize,
            digest=manifest.digest,
            hidden=manifest.hidden_size,
            bad_rows=options.bad_rows,
            batch_size=options.batch_size,
            concurrency=options.concurrency,
            patience_s=options.patience_s,
        )
        source = _source(options, stack)
        output = _output(options, run, manifest, stack)
        if isinstance(output, Part):
            output.skip_seen(source)
        already, began = output.progress.read, time.monotonic()
        totals = _with_bar(
            source,
            already,
            options.quiet,
            lambda on_block, say: run.embed(portal, client, source, output, on_block, say),
        )
        if isinstance(output, Part):
            if portal.call(client.info, True).digest != manifest.digest:
                raise InvalidInput("the model changed during the run; --restart begins anew")
            output.finish()
            if not options.quiet:
                sys.stdout.write(_summary(output, totals, already, time.monotonic() - began, options.output))


def _source(options: argparse.Namespace, stack: contextlib.ExitStack) -> Source:
    if options.input is None:
        return from_texts(options.text)
    kind = options.input_format or format_of(options.input)
    return stack.enter_context(open_source(options.input, kind, options.field))


def _output(options: argparse.Namespace, run: Run, manifest: Manifest, stack: contextlib.ExitStack) -> Output:
    if options.output is None:
        # Not `sys.stdout` itself: its encoding is the terminal's, and JSON is UTF-8.
        return Stream(sys.stdout.buffer, JsonLines())
    # What the vectors and their places depend on. The input itself is known again by its rows.
    same = {
        "model": manifest.model,
        "digest": run.digest,
        "max_length": run.max_length,
        "normalize": run.normalize,
        "bad_rows": run.bad_rows,
    }
    return stack.enter_context(Part(options.output, writer_for(options.output, manifest), same, options.restart))


def _with_bar(
    source: Source,
    already: int,
    quiet: bool,
    work: Callable[[Callable[[int], None], Callable[[str], None]], Totals],
) -> Totals:
    """Do the work under a progress bar; the total is estimated from the share of the input that was read."""
    # `disable=None`: no bar where standard error is not a terminal.
    with tqdm(
        initial=already, unit=" texts", delay=_PROGRESS_AFTER_S, disable=quiet or None, dynamic_ncols=True
    ) as bar:

        def on_block(rows: int) -> None:
            share = source.share()
            if share:
                # Until all is read, a little of it has been read and not written.
                bar.total = max(round((bar.n + rows) / share), bar.n + rows)
            bar.update(rows)

        def say(words: str) -> None:
            with bar.external_write_mode(sys.stderr):
                sys.stderr.write(f"{words}\n")

        totals = work(on_block, say)
        bar.total = bar.n
        return totals


def _summary(output: Part, totals: Totals, already: int, seconds: float, target: Path) -> str:
    size = os.stat(target).st_size
    parts = [f"{totals.texts:,} texts in {seconds:.1f} s ({totals.texts / max(seconds, 1e-9):,.0f} texts/s)"]
    if totals.tokens:
        parts.append(f"{totals.tokens:,} tokens")
    if already:
        parts.append(f"{already:,} rows were there from an earlier run")
    if totals.bad:
        parts.append(f"{totals.bad:,} bad rows")
    if totals.refused:
        parts.append(f"the server was full {totals.refused:,} times")
    return f"{target}: {output.progress.written:,} rows, {size:,} bytes; {'; '.join(parts)}\n"


def _positive(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"wanted an integer from 1, got {value}")
    return int(value)
