"""Puts verified files into the model repository, all or none.

Everything is written to a staging folder beside the repository and verified there. `install` then moves it in, file by
file with os.replace, manifests last; if a move fails, the earlier ones are undone. A running Triton keeps the files it
has opened; a server that starts in between finds manifests that do not fit and refuses (manifest.check).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from export.errors import ExportError

__all__ = ["MODEL", "TOKENIZER", "install", "staging"]

MODEL = Path("bert/1/model.onnx")
TOKENIZER = Path("tokenizer/1/tokenizer.json")
STAGING_PREFIX = ".export-"


@contextlib.contextmanager
def staging(repository: Path) -> Iterator[Path]:
    """An empty folder on the repository's file system, removed at the end whatever happens."""
    try:
        repository.mkdir(parents=True, exist_ok=True)
        # Not inside: Triton takes every folder in its repository for a model. Unless the repository is a mounted
        # volume, from where a file cannot be moved in.
        beside = repository.resolve().parent
        same = beside.stat().st_dev == repository.stat().st_dev and os.access(beside, os.W_OK)
        folder = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=beside if same else repository))
    except OSError as error:
        raise ExportError(f"cannot write to {repository}: {error}") from error
    try:
        for path in (MODEL, TOKENIZER):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def install(staged: Path, repository: Path, files: Sequence[Path], obsolete: Sequence[Path] = ()) -> None:
    """Moves `files` (paths in both) into the repository in this order, and removes `obsolete` ones."""
    kept = staged / "replaced"
    done: list[Path] = []
    try:
        for path in (*obsolete, *files):
            target = repository / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                (kept / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(target, kept / path) if path in files else os.replace(target, kept / path)
            if path in files:
                os.replace(staged / path, target)
            done.append(path)
    except OSError as error:
        for path in done:
            if (kept / path).exists():
                os.replace(kept / path, repository / path)
            else:
                (repository / path).unlink(missing_ok=True)
        raise ExportError(f"cannot write to {repository}, which is as it was: {error}") from error
