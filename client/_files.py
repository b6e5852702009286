"""Texts in and vectors out of files, a window at a time, so that files may be larger than memory.

An output file appears under its name only when it is complete; until then it is `NAME.part`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.lib import format as npy

from client._wire import Embeddings
from client.errors import InvalidInput

__all__ = ["JsonLines", "Npy", "Sink", "count_lines", "open_sink", "read_lines"]


def read_lines(source: BinaryIO, name: str) -> Iterator[str]:
    """One text per line, without its line end; an empty line is an empty text, so that rows and lines agree.

    Raises:
        InvalidInput: a line that is not UTF-8, by its number.
    """
    for number, line in enumerate(source, start=1):
        try:
            yield line.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{name}, line {number}: wanted UTF-8, got the byte {line[error.start]:#04x}") from error


def count_lines(path: Path) -> int:
    """The number of texts that `read_lines` will find, for a progress bar."""
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            count += block.count(b"\n")
            last = block[-1:]
    return count + (last != b"\n")


class Sink(Protocol):
    """Takes embeddings in order."""

    def write(self, texts: Sequence[str], embeddings: Embeddings) -> None:
        """Append one window of rows."""


class JsonLines:
    """A line per text: {"text": …, "tokens": n, "embedding": […]}."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, texts: Sequence[str], embeddings: Embeddings) -> None:
        """See Sink."""
        for text, tokens, vector in zip(texts, embeddings.tokens, embeddings.vectors, strict=True):
            row = {"text": text, "tokens": int(tokens), "embedding": _shortest(vector)}
            self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


class Npy:
    """A NumPy array, (n, hidden) float32; n is written into its header at the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._rows = 0
        self._hidden = 0

    def write(self, texts: Sequence[str], embeddings: Embeddings) -> None:
        """See Sink."""
        if not self._hidden:
            self._hidden = embeddings.vectors.shape[1]
            self._write_header()
        self._rows += len(texts)
        self._file.write(np.ascontiguousarray(embeddings.vectors, "<f4").tobytes())

    def finish(self) -> None:
        """Write the number of rows; NumPy leaves room in the header for the first axis to grow."""
        self._file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": (self._rows, self._hidden)}
        npy.write_array_header_1_0(self._file, header)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def open_sink(output: Path | None) -> Iterator[Sink]:
    """JSON lines to standard output, or to a file by its suffix: .jsonl or .npy.

    Raises:
        InvalidInput: another suffix.
    """
    if output is None:
        # Not `sys.stdout` itself: its encoding is the terminal's, and JSON is UTF-8.
        yield JsonLines(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    if output.suffix not in {".jsonl", ".npy"}:
        raise InvalidInput(f"--output: wanted a name ending in .jsonl or .npy, got {output.name}")
    part = output.with_name(output.name + ".part")
    try:
        with part.open("wb") as file:
            if output.suffix == ".npy":
                array = Npy(file)
                yield array
                array.finish()
            else:
                yield JsonLines(file)
        os.replace(part, output)
    finally:
        part.unlink(missing_ok=True)


def _shortest(vector: Iterable[np.float32]) -> list[float]:
    """Numbers with no more digits than a float32 has."""
    return [float(str(number)) for number in vector]
