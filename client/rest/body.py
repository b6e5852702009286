"""From a request's stream to parsed JSON, bounded, and never more of it read than is wanted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import orjson
from fastapi import Request
from starlette.requests import ClientDisconnect

from client.rest.errors import BodyTooLarge, NotJson, WrongContentType

__all__ = ["read_json", "while_connected"]

# Closing a connection that still sends makes the kernel reset it, and the client then loses our answer. So the rest of
# a body that is too large is thrown away as it comes, for so long.
_DRAIN_S = 2.0


async def read_json(request: Request, max_bytes: int) -> object:
    """The body as Python objects.

    Raises:
        WrongContentType: not declared as JSON, or compressed. Strict, because browsers send other types across sites
            unasked.
        BodyTooLarge: larger than `max_bytes`, told as soon as it is known.
        NotJson: malformed, truncated, nested too deep, or a string that is not Unicode.
    """
    _check_content_type(request.headers.get("content-type"))
    _check_content_encoding(request.headers.get("content-encoding", "identity"))
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > max_bytes:
        await _drain(request)
        raise BodyTooLarge(f"body: wanted at most {max_bytes} bytes, got {declared[:20]}")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            chunks.clear()
            await _drain(request)
            raise BodyTooLarge(f"body: wanted at most {max_bytes} bytes, got more")
        chunks.append(chunk)
    try:
        return orjson.loads(b"".join(chunks))
    except orjson.JSONDecodeError as error:
        # orjson's messages name a position and never quote the text.
        raise NotJson(f"body: wanted JSON in UTF-8, got something else: {error}") from error


@contextlib.asynccontextmanager
async def while_connected(request: Request) -> AsyncIterator[None]:
    """Cancel what is done in the block when the client hangs up; the body must have been read.

    Raises:
        ClientDisconnect: nobody waits for the result any more.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("wanted a task to cancel, found none")
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()


async def _drain(request: Request) -> None:
    # A client that asked whether to send at all (curl does) has sent nothing yet and waits for our answer.
    if request.headers.get("expect", "").lower() == "100-continue":
        return
    with contextlib.suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(_DRAIN_S):
            while (message := await request.receive())["type"] == "http.request" and message.get("more_body"):
                pass


def _check_content_type(value: str | None) -> None:
    if value == "application/json":
        return
    kind, _, parameters = (value or "").lower().partition(";")
    kind = kind.strip()
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        name, _, charset = parameters.partition("=")
        if name.strip() != "charset" or charset.strip().strip('"') in {"utf-8", "utf8"}:
            return
    raise WrongContentType(f"Content-Type: wanted application/json, got {(value or 'none')[:60]}")


def _check_content_encoding(value: str) -> None:
    # Undone, a body could be a thousand times larger than what was sent.
    if value.lower() not in {"identity", ""}:
        raise WrongContentType(f"Content-Encoding: wanted none, got {value[:60]}")
