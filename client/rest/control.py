"""Orders from the supervisor that started the shim, over a socket that the shim inherited; see `server.rest_shim`.

    {"id": 1, "do": "ping"}                  the event loop runs
    {"id": 2, "do": "move", "to": "NAME"}    new requests go to the Triton of that name, which shares the address
    {"id": 3, "do": "settle"}                no request is at an earlier one any more

Each is answered when it is done, in any order: {"id": 2, "error": null}, or why not.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import orjson

from client import AsyncEmbeddingClient, EmbeddingError

__all__ = ["taking_orders"]


@contextlib.asynccontextmanager
async def taking_orders(descriptor: int | None, client: AsyncEmbeddingClient) -> AsyncIterator[None]:
    """Carry orders out within the block; without a descriptor there are none."""
    if descriptor is None:
        yield
        return
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor))
    taking = asyncio.create_task(_take(reader, writer, client))
    try:
        yield
    finally:
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        writer.close()


async def _take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: AsyncEmbeddingClient) -> None:
    async with asyncio.TaskGroup() as group:
        while line := await reader.readline():
            group.create_task(_carry_out(orjson.loads(line), writer, client))


async def _carry_out(order: dict[str, object], writer: asyncio.StreamWriter, client: AsyncEmbeddingClient) -> None:
    error: str | None = None
    try:
        match order:
            case {"do": "ping"}:
                pass
            case {"do": "move", "to": str(name)}:
                await client.move(name)
            case {"do": "settle"}:
                await client.settle()
            case _:
                error = f"wanted ping, move or settle, got {order.get('do')!r}"
    except EmbeddingError as failure:
        error = str(failure)
    writer.write(orjson.dumps({"id": order["id"], "error": error}) + b"\n")
