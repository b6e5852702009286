"""Orders to a running server from its own machine: `scripts/update`.

A socket in the file system, in a directory that only its user may enter, and not a port: to load a model is to run the
code that comes with it, which is nothing for a network. One JSON object a line:

    {"model_repository": "/srv/models/new"}  ->  {"progress": "…"} …  {"done": true} or {"failed": "…"}
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

from server.errors import StartError

__all__ = ["Say", "take_orders"]

Say = Callable[[str], None]
Update = Callable[[Path, Say], Awaitable[None]]


async def take_orders(path: Path, update: Update) -> NoReturn:
    """Listen, and carry orders out one after the other.

    Args:
        path: of the socket. Where it cannot be made, as in a read-only container, there are no orders.
        update: does it, tells of its progress, and raises StartError if it cannot.
    """
    orders: asyncio.Queue[tuple[Path, asyncio.StreamWriter]] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            order = json.loads(await reader.readline())
            await orders.put((Path(order["model_repository"]), writer))
        except (ValueError, KeyError, TypeError) as error:
            _tell(writer, failed=f"wanted a JSON object with model_repository, got something else: {error}")
            writer.close()

    try:
        _make_directory(path.parent)
        path.unlink(missing_ok=True)  # of a server that was killed: the ports are ours
        server = await asyncio.start_unix_server(accept, path)
    except OSError as error:
        sys.stderr.write(f"serve: no updates without a restart: cannot listen on {path}: {error}\n")
        await asyncio.Event().wait()
    try:
        while True:
            repository, writer = await orders.get()
            await _carry_out(update, repository, writer)
    finally:
        server.close()
        path.unlink(missing_ok=True)


async def _carry_out(update: Update, repository: Path, writer: asyncio.StreamWriter) -> None:
    try:
        await update(repository, lambda line: _tell(writer, progress=line))
    except StartError as error:
        sys.stderr.write(f"serve: the update failed, the former model serves: {error}\n")
        _tell(writer, failed=str(error))
    else:
        _tell(writer, done=True)
    finally:
        writer.close()


def _tell(writer: asyncio.StreamWriter, **message: object) -> None:
    # Who hung up does not want to know.
    if not writer.is_closing():
        writer.write(json.dumps(message).encode() + b"\n")


def _make_directory(directory: Path) -> None:
    """A directory that only we may enter.

    Raises:
        PermissionError: there is one of somebody else, or one that others may enter.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(f"wanted {directory} to be ours alone, mode 700")
