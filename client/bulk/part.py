"""FILE.part and its journal: what a run has written so far, and what it takes to go on from there.

FILE.part        the rows so far, in the writer's form; whatever stands behind the journal's `bytes` was torn
FILE.part.json   {"run": what must be the same to go on, "progress": how far it is}

Blocks are appended; a few times a second they are flushed to the disk, and then the journal is replaced in one step.
Killed at any moment, the journal names rows that are there, and only the last moment's are embedded again. FILE appears
when all rows are there, and both others go.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from client.bulk.readers import Row, Source
from client.bulk.writers import Block, Writer
from client.errors import InvalidInput

__all__ = ["Output", "Part", "Progress", "Stream"]

# Flushing to the disk takes milliseconds: not for each block.
_JOURNAL_EVERY_S = 0.25


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        read: rows of the input.
        written: rows of the output; fewer where bad rows were left out.
        bytes: of the part.
        digest: of the rows that were read, so that they are known again.
    """

    read: int = 0
    written: int = 0
    bytes: int = 0
    digest: str = ""


class Output(Protocol):
    """Takes blocks in order."""

    progress: Progress

    def append(self, rows: Sequence[Row], block: Block) -> None:
        """Write a block, which came of those rows."""


class Stream:
    """An output that nobody can go on from: standard output."""

    def __init__(self, file: BinaryIO, writer: Writer) -> None:
        self._file = file
        self._writer = writer
        self.progress = Progress()

    def append(self, rows: Sequence[Row], block: Block) -> None:
        """See Output."""
        self._file.write(self._writer.rows(block))
        self._file.flush()
        self.progress = Progress(self.progress.read + len(rows), self.progress.written + len(block.texts))


class Part:
    """A file that grows, and survives its writer's end at any moment."""

    def __init__(self, target: Path, writer: Writer, run: Mapping[str, object], restart: bool) -> None:
        """Open what there is, or begin.

        Args:
            target: the file to make.
            writer: its form.
            run: what vectors depend on; a part with others is refused.
            restart: throw away what there is.

        Raises:
            InvalidInput: another run writes it, or wrote it with something else in `run`.
        """
        self._target = target
        self._part = target.with_name(target.name + ".part")
        self._journal = target.with_name(target.name + ".part.json")
        self._writer = writer
        self._run = dict(run)
        self._seen = hashlib.sha256()
        self._file = os.fdopen(os.open(self._part, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            self._lock()
            if restart:
                self._journal.unlink(missing_ok=True)
            self.progress = self._resumed()
            self._file.truncate(self.progress.bytes)
            self._file.seek(self.progress.bytes)
            if not self.progress.bytes:
                self._file.write(self._writer.opening())
        except BaseException:
            self._file.close()
            raise
        self._journaled_at = time.monotonic()
        self._unjournaled = False

    def skip_seen(self, source: Source) -> None:
        """Read over the rows that an earlier run has done.

        Raises:
            InvalidInput: they are not the rows that it read.
        """
        read = 0
        while read < self.progress.read and (row := next(source.rows, None)) is not None:
            _count_in(self._seen, row)
            read += 1
        if read < self.progress.read or (read and self._seen.hexdigest() != self.progress.digest):
            raise InvalidInput(
                f"{self._part}: an unfinished run with other rows: its first {self.progress.read} are not those of "
                f"{source.name}; --restart begins anew"
            )

    def append(self, rows: Sequence[Row], block: Block) -> None:
        """See Output."""
        for row in rows:
            _count_in(self._seen, row)
        if block.texts:
            self._file.write(self._writer.rows(block))
        before = self.progress
        self._unjournaled = True
        self.progress = replace(before, read=before.read + len(rows), written=before.written + len(block.texts))
        if time.monotonic() - self._journaled_at >= _JOURNAL_EVERY_S:
            self._write_journal()

    def finish(self) -> None:
        """All rows are there: make the file."""
        self._write_journal()
        self._writer.finish(self._part, self._target, self.progress.written)
        self._journal.unlink()
        self._file.close()

    def close(self) -> None:
        """End, finished or not; a part without any row goes."""
        if self._file.closed:
            return
        if self._unjournaled:
            self._write_journal()
        if not self.progress.read:
            self._part.unlink()
            self._journal.unlink(missing_ok=True)
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _write_journal(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self.progress = replace(self.progress, bytes=self._file.tell(), digest=self._seen.hexdigest())
        new = self._journal.with_name(self._journal.name + ".new")
        with new.open("w") as file:
            json.dump({"run": self._run, "progress": asdict(self.progress)}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._journal)
        self._journaled_at = time.monotonic()
        self._unjournaled = False

    def _resumed(self) -> Progress:
        try:
            journal = json.loads(self._journal.read_bytes())
        except FileNotFoundError:
            return Progress()
        run, progress = journal["run"], Progress(**journal["progress"])
        if os.fstat(self._file.fileno()).st_size < progress.bytes:
            return Progress()  # finished and not tidied up, or the disk lost it
        for name, now in self._run.items():
            if run.get(name) != now:
                raise InvalidInput(
                    f"{self._part}: an unfinished run with {name} {run.get(name)!r}, now it is {now!r}; "
                    "the same again goes on, --restart begins anew"
                )
        return progress

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidInput(f"{self._part}: another run is writing it") from error


def _count_in(digest: hashlib._Hash, row: Row) -> None:
    """Rows of other texts, or cut elsewhere, give another digest."""
    text = b"" if row.text is None else row.text.encode()
    digest.update(b"%d %d " % (row.text is None, len(text)))
    digest.update(text)
