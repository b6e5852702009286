"""Rows out of files, one at a time: text lines, JSON lines, CSV and Parquet.

A row that has no text (null, another type, a missing field, not UTF-8) is a Row with a problem: the run decides what to
do about it. A file that cannot be read on (bad CSV quoting, no such column) is an InvalidInput.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import orjson

from client.errors import InvalidInput

__all__ = ["FORMATS", "Row", "Source", "format_of", "from_texts", "open_source"]

FORMATS = ("text", "jsonl", "csv", "tsv", "parquet")
_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}

# One text of more than this is a file without line ends, or a quote that is never closed.
_MAX_TEXT_BYTES = 32 * 1024 * 1024
_PARQUET_ROWS = 1024


@dataclass(frozen=True)
class Row:
    """A text and where it stands: `line 7`. Without a text, `problem` says what was wanted and what came."""

    place: str
    text: str | None
    problem: str = ""


@dataclass(frozen=True)
class Source:
    """Rows to read once.

    Attributes:
        name: of the file, for messages.
        share: how much of the input was read so far, from 0 to 1; None where that cannot be known.
    """

    name: str
    rows: Iterator[Row]
    share: Callable[[], float | None]


def format_of(name: str) -> str:
    """The format that a file's suffix means; text lines where it means none."""
    return _SUFFIXES.get(Path(name).suffix.lower(), "text")


def from_texts(texts: Iterable[str]) -> Source:
    """Texts of the command line."""
    rows = (_row(f"argument {number}", text) for number, text in enumerate(texts, start=1))
    return Source("the command line", rows, lambda: None)


@contextlib.contextmanager
def open_source(name: str, kind: str, field: str) -> Iterator[Source]:
    """Open a file, or standard input as `-`.

    Args:
        name: the file.
        kind: one of FORMATS.
        field: the field or column with the text; text lines have none.

    Raises:
        InvalidInput: no such column, or Parquet from a pipe.
        OSError: the file cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        if name == "-":
            name, file = "standard input", sys.stdin.buffer
        else:
            file = stack.enter_context(open(name, "rb"))
        if kind == "parquet":
            yield _parquet(file, name, field)
            return
        status = os.fstat(file.fileno())
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        rows = {
            "text": lambda: _text_lines(file, name),
            "jsonl": lambda: _json_lines(file, name, field),
            "csv": lambda: _csv(file, name, field, ","),
            "tsv": lambda: _csv(file, name, field, "\t"),
        }[kind]()
        yield Source(name, rows, lambda: file.tell() / size if size else None)


def _text_lines(file: BinaryIO, name: str) -> Iterator[Row]:
    """An empty line is an empty text, so that rows and lines agree."""
    for place, line in _lines(file, name):
        try:
            yield Row(place, line.decode())
        except UnicodeDecodeError as error:
            yield Row(place, None, f"wanted UTF-8, got the byte {line[error.start]:#04x}")


def _json_lines(file: BinaryIO, name: str, field: str) -> Iterator[Row]:
    """An object per line; blank lines are none."""
    for place, line in _lines(file, name):
        if not line.strip():
            continue
        try:
            content = orjson.loads(line)
        except orjson.JSONDecodeError:
            yield Row(place, None, "wanted a JSON object in UTF-8, got something else")
            continue
        if not isinstance(content, dict):
            yield Row(place, None, f"wanted a JSON object, got {_kind(content)}")
        elif field not in content:
            yield Row(place, None, f"wanted the field {field!r}, got none")
        else:
            yield _row(place, content[field], field)


def _lines(file: BinaryIO, name: str) -> Iterator[tuple[str, bytes]]:
    """Lines without their ends, and never more of one in memory than a text may have."""
    number = 0
    while line := file.readline(_MAX_TEXT_BYTES + 1):
        number += 1
        if len(line) > _MAX_TEXT_BYTES:
            raise InvalidInput(f"{name}, line {number}: wanted at most {_MAX_TEXT_BYTES} bytes, got more")
        yield f"line {number}", line.removesuffix(b"\n").removesuffix(b"\r")


def _csv(file: BinaryIO, name: str, field: str, delimiter: str) -> Iterator[Row]:
    """Rows under a header; a place is the line where the row begins, because quoted fields may hold line ends."""
    # Bytes that are not UTF-8 become lone surrogates, so that they are the mistake of their row and not of the file.
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    csv.field_size_limit(_MAX_TEXT_BYTES)
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        if field not in header:
            raise InvalidInput(f"{name}: wanted a column {field!r}, got {', '.join(header) or 'none'}; see --field")
        column = header.index(field)
        began = reader.line_num + 1
        for fields in reader:
            place, began = f"line {began}", reader.line_num + 1
            if not fields:
                continue  # a blank line
            if len(fields) != len(header):
                yield Row(place, None, f"wanted {len(header)} fields as in the header, got {len(fields)}")
            else:
                yield _row(place, fields[column], field)
    except csv.Error as error:
        raise InvalidInput(f"{name}, line {reader.line_num}: wanted CSV, got something else: {error}") from error
    finally:
        text.detach()  # or it would close the file


def _parquet(file: BinaryIO, name: str, field: str) -> Source:
    """A column of strings; a place is the row's number from 1."""
    # Imported here: it costs 0.2 s, and most runs read something else.
    import pyarrow
    import pyarrow.parquet

    if not file.seekable():
        raise InvalidInput(f"{name}: wanted a file, got a pipe; Parquet is read from its end")
    try:
        # Pages are read one after the other, or a row group would be in memory as a whole.
        parquet = pyarrow.parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
    except pyarrow.ArrowInvalid as error:
        raise InvalidInput(f"{name}: wanted a Parquet file, got something else: {error}") from error
    schema, total, read = parquet.schema_arrow, parquet.metadata.num_rows, 0
    if field not in schema.names:
        raise InvalidInput(f"{name}: wanted a column {field!r}, got {', '.join(schema.names) or 'none'}; see --field")
    kind = schema.field(field).type
    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        raise InvalidInput(f"{name}: wanted strings in the column {field!r}, got {kind}")

    def rows() -> Iterator[Row]:
        nonlocal read
        for batch in parquet.iter_batches(_PARQUET_ROWS, columns=[field]):
            for value in batch.column(0).to_pylist():
                read += 1
                yield _row(f"row {read}", value, field)

    return Source(name, rows(), lambda: read / total if total else None)


def _row(place: str, value: object, field: str = "text") -> Row:
    if not isinstance(value, str):
        return Row(place, None, f"wanted a string in {field!r}, got {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        return Row(place, None, f"wanted UTF-8 in {field!r}, got something else")
    return Row(place, value)


def _kind(value: object) -> str:
    """A JSON value by its kind."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
