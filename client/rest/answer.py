"""Vectors as JSON. (n, hidden) float32 -> bytes; the event loop is held for a few milliseconds at a time at most."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import orjson
from fastapi import Response
from fastapi.responses import StreamingResponse
from numpy.typing import NDArray

__all__ = ["vectors_answer"]

# orjson writes a float32 in some 20 ns: 2 ms for so many.
_NUMBERS_AT_A_TIME = 100_000


def vectors_answer(vectors: NDArray[np.float32]) -> Response:
    """`{"embeddings": [[…], …]}`, at once when it is small, in chunks when it is large."""
    if vectors.size <= _NUMBERS_AT_A_TIME:
        body = orjson.dumps({"embeddings": vectors}, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(body, media_type="application/json")
    return StreamingResponse(_chunks(vectors), media_type="application/json")


async def _chunks(vectors: NDArray[np.float32]) -> AsyncIterator[bytes]:
    rows = max(1, _NUMBERS_AT_A_TIME // vectors.shape[1])
    start = b'{"embeddings":['
    for first in range(0, len(vectors), rows):
        # The rows without the brackets around them.
        yield start + orjson.dumps(vectors[first : first + rows], option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
        start = b","
        # Sending does not let others run as long as the socket takes it.
        await asyncio.sleep(0)
    yield b"]}"
