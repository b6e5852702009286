"""Vectors as an answer: JSON, raw float32, or an .npy file.

    (n, hidden) float32  ->  bytes, at once when they are few, else in chunks

so that the event loop is held for a few milliseconds at a time at most.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import orjson
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from numpy.typing import NDArray

from client.rest.accept import preferred

__all__ = ["BINARY", "BINARY_TOO", "JSON", "NPY", "Rows", "negotiated", "vectors_answer"]

JSON = "application/json"
# Float32, little-endian, row after row; header X-Shape has `n,hidden`.
BINARY = "application/octet-stream"
# The same behind numpy's header. Not registered with IANA; the name is that of other inference servers.
NPY = "application/x-npy"

# The OpenAPI page's entry for what `negotiated` answers beside JSON.
BINARY_TOO: dict[str, Any] = {
    "description": "The vectors, in the form that the Accept header asks for.",
    "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in (BINARY, NPY)},
    "headers": {"X-Shape": {"description": "Rows and columns of a binary answer.", "schema": {"type": "string"}}},
}

# A quarter of a megabyte, which is all that waits for a client that does not read. orjson writes it in 0.3 ms.
_NUMBERS_AT_A_TIME = 12_800
_BYTES_AT_A_TIME = 1 << 18

# Some rows, and the index of the first of them, to the items of a JSON list without the brackets around it.
Rows = Callable[[NDArray[np.float32], int], bytes]


def negotiated(request: Request, vectors: NDArray[np.float32], start: bytes, end: bytes) -> Response:
    """In the form that the request's Accept header likes best; JSON, between `start` and `end`, without one."""
    kind = preferred(request.headers.getlist("accept"), (JSON, BINARY, NPY))
    answer = vectors_answer(vectors, start=start, end=end) if kind == JSON else _binary(vectors, kind)
    answer.headers["Vary"] = "Accept"
    return answer


def plain_rows(vectors: NDArray[np.float32], first: int) -> bytes:
    """`[…],[…]`"""
    return orjson.dumps(vectors, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def vectors_answer(
    vectors: NDArray[np.float32], rows: Rows = plain_rows, start: bytes = b'{"embeddings":[', end: bytes = b"]}"
) -> Response:
    """JSON: the rows, as `rows` writes them, between `start` and `end`."""
    at_a_time = max(1, _NUMBERS_AT_A_TIME // vectors.shape[1])
    if len(vectors) <= at_a_time:
        return Response(start + rows(vectors, 0) + end, media_type=JSON)
    return StreamingResponse(_chunks(vectors, rows, start, end, at_a_time), media_type=JSON)


async def _chunks(
    vectors: NDArray[np.float32], rows: Rows, start: bytes, end: bytes, at_a_time: int
) -> AsyncIterator[bytes]:
    for first in range(0, len(vectors), at_a_time):
        yield start + rows(vectors[first : first + at_a_time], first)
        start = b","
        # Sending does not let others run as long as the socket takes it.
        await asyncio.sleep(0)
    yield end


def _binary(vectors: NDArray[np.float32], kind: str) -> Response:
    little = np.ascontiguousarray(vectors, "<f4")
    headers = {"X-Shape": ",".join(map(str, little.shape))}
    head = _npy_head(little) if kind == NPY else b""
    if little.nbytes <= _BYTES_AT_A_TIME:
        return Response(head + little.tobytes(), headers=headers, media_type=kind)
    headers["Content-Length"] = str(len(head) + little.nbytes)
    return StreamingResponse(_blocks(head, little.data.cast("B")), headers=headers, media_type=kind)


def _npy_head(array: NDArray[np.float32]) -> bytes:
    """What stands before the numbers in an .npy file."""
    file = io.BytesIO()
    header = np.lib.format.header_data_from_array_1_0(array)  # type: ignore[no-untyped-call]
    np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
    return file.getvalue()


async def _blocks(head: bytes, content: memoryview) -> AsyncIterator[bytes]:
    yield head
    for first in range(0, len(content), _BYTES_AT_A_TIME):
        yield bytes(content[first : first + _BYTES_AT_A_TIME])
        await asyncio.sleep(0)
