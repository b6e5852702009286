"""Hands TCP connections on to another port of this machine.

After an update Triton's metrics are on a port that was free, because two Tritons cannot share that one: this keeps the
well-known port. A scrape is a connection every some seconds, so the simplest form will do.
"""

from __future__ import annotations

import asyncio
import contextlib

__all__ = ["relaying"]


async def relaying(host: str, port: int, target_host: str, target_port: int) -> asyncio.Server:
    """Listen, until the server is closed.

    Raises:
        OSError: somebody has the port.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection(target_host, target_port)
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        writer.close()

    return await asyncio.start_server(serve, host, port)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while block := await reader.read(1 << 16):
            writer.write(block)
            await writer.drain()
    writer.close()
