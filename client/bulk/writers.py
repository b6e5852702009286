"""Blocks of rows as bytes of a file. Writers hold no file and no state: whatever was written, more can be appended.

    opening()  +  rows(block)  +  rows(block)  +  …  =  FILE.part  ->  finish  ->  FILE

So a run that was killed goes on by cutting FILE.part where its journal says.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import orjson
from numpy.lib import format as npy
from numpy.typing import NDArray

from client._manifest import Manifest
from client._wire import UNKNOWN_TOKENS
from client.errors import InvalidInput

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Block", "JsonLines", "Npy", "Parquet", "Writer", "writer_for"]

# A row group is in memory as a whole, here and where it is read.
_ROW_GROUP_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Block:
    """Rows of the output, in order.

    Attributes:
        texts: None for a row that had no text.
        vectors: (n, hidden) float32, NaN for such a row.
        tokens: (n,) int32, UNKNOWN_TOKENS for such a row.
    """

    texts: Sequence[str | None]
    vectors: NDArray[np.float32]
    tokens: NDArray[np.int32]


class Writer(Protocol):
    """A format."""

    def opening(self) -> bytes:
        """What stands before the first row."""

    def rows(self, block: Block) -> bytes:
        """Rows, to be appended."""

    def finish(self, part: Path, target: Path, rows: int) -> None:
        """Make the file of a part that has all rows. It may be done twice."""


def writer_for(target: Path, manifest: Manifest) -> Writer:
    """The writer that a file's suffix means.

    Raises:
        InvalidInput: another suffix.
    """
    match target.suffix:
        case ".npy":
            return Npy(manifest.hidden_size)
        case ".jsonl":
            return JsonLines()
        case ".parquet":
            return Parquet(manifest)
        case _:
            raise InvalidInput(f"--output: wanted a name ending in .jsonl, .npy or .parquet, got {target.name}")


class JsonLines:
    """A line per row: {"text": …, "tokens": n, "embedding": […]}, null where there is none."""

    def opening(self) -> bytes:
        """See Writer."""
        return b""

    def rows(self, block: Block) -> bytes:
        """See Writer. Numbers have no more digits than a float32 has."""
        options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
        return b"".join(
            orjson.dumps(
                {
                    "text": text,
                    "tokens": None if tokens == UNKNOWN_TOKENS else int(tokens),
                    "embedding": None if text is None else vector,
                },
                option=options,
            )
            for text, tokens, vector in zip(block.texts, block.tokens, block.vectors, strict=True)
        )

    def finish(self, part: Path, target: Path, rows: int) -> None:
        """See Writer."""
        os.replace(part, target)


class Npy:
    """A NumPy array, (n, hidden) float32; n is written into its header at the end."""

    def __init__(self, hidden: int) -> None:
        self._hidden = hidden

    def opening(self) -> bytes:
        """See Writer."""
        return self._header(0)

    def rows(self, block: Block) -> bytes:
        """See Writer."""
        return np.ascontiguousarray(block.vectors, "<f4").tobytes()

    def finish(self, part: Path, target: Path, rows: int) -> None:
        """See Writer. NumPy leaves room in the header for the first axis to grow."""
        with part.open("r+b") as file:
            file.write(self._header(rows))
            os.fsync(file.fileno())
        os.replace(part, target)

    def _header(self, rows: int) -> bytes:
        file = io.BytesIO()
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, self._hidden)}
        npy.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
        return file.getvalue()


class Parquet:
    """Columns text, tokens and embedding (a list of `hidden` float32). The part is an Arrow stream.

    A Parquet file has its index at its end, so nothing can be appended to one that was not ended.
    """

    def __init__(self, manifest: Manifest) -> None:
        # Imported here: it costs 0.2 s, and most runs write something else.
        import pyarrow

        self._hidden = manifest.hidden_size
        self._schema = pyarrow.schema(
            [
                ("text", pyarrow.string()),
                ("tokens", pyarrow.int32()),
                ("embedding", pyarrow.list_(pyarrow.float32(), manifest.hidden_size)),
            ],
            metadata={"model": manifest.model, "digest": manifest.digest},
        )

    def opening(self) -> bytes:
        """See Writer."""
        return bytes(self._schema.serialize())

    def rows(self, block: Block) -> bytes:
        """See Writer."""
        return bytes(self._batch(block).serialize())

    def finish(self, part: Path, target: Path, rows: int) -> None:
        """See Writer."""
        import pyarrow
        import pyarrow.parquet

        half = target.with_name(target.name + ".half")
        with (
            pyarrow.OSFile(str(part)) as file,
            pyarrow.ipc.open_stream(file) as stream,
            pyarrow.parquet.ParquetWriter(half, self._schema, use_dictionary=False) as parquet,
        ):
            waiting: list[pyarrow.RecordBatch] = []
            for batch in stream:
                waiting.append(batch)
                if sum(each.nbytes for each in waiting) >= _ROW_GROUP_BYTES:
                    parquet.write_table(pyarrow.Table.from_batches(waiting))
                    waiting = []
            parquet.write_table(pyarrow.Table.from_batches(waiting, self._schema))
        with half.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(half, target)
        part.unlink()

    def _batch(self, block: Block) -> pyarrow.RecordBatch:
        import pyarrow

        # NaN and not null where there is none: Arrow cannot read its own lists of fixed size with nulls from Parquet.
        embedding = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(block.vectors.reshape(-1)), self._hidden)
        tokens = pyarrow.array(block.tokens, mask=block.tokens == UNKNOWN_TOKENS)
        text = pyarrow.array(block.texts, pyarrow.string())
        return pyarrow.RecordBatch.from_arrays([text, tokens, embedding], schema=self._schema)
