"""The REST shim as a transport: for machines that reach the shim only, and for keys, which Triton does not know.

texts  ->  POST /embedding, JSON  ->  float32 in binary, or {"embeddings": [[…]]}  ->  (n, hidden) float32

Token counts are not part of that answer: they are `UNKNOWN_TOKENS`.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray

from client._call import Call
from client._wire import UNKNOWN_TOKENS, Cut, Embeddings, decode
from client.errors import (
    DeadlineExceeded,
    EmbeddingError,
    InvalidInput,
    Overloaded,
    ServerError,
    Unavailable,
)

__all__ = ["RestTransport"]

# Float32, little-endian, row after row; the shape in a header. A third of JSON's bytes, and nothing to parse.
_BINARY = "application/octet-stream"

_STATUSES: dict[int, type[EmbeddingError]] = {
    400: InvalidInput,
    401: InvalidInput,
    403: InvalidInput,
    404: InvalidInput,
    405: InvalidInput,
    413: InvalidInput,
    415: InvalidInput,
    422: InvalidInput,
    429: Overloaded,
    # A proxy in front of the shim says 502 while the shim is away.
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}


@dataclass(frozen=True)
class _Answer:
    """A success, as it came."""

    headers: Mapping[str, str]
    content: bytes

    def vectors(self) -> NDArray[np.float32]:
        """Those of POST /embedding, (n, hidden); raises KeyError, TypeError or ValueError for anything else."""
        if self.headers.get("Content-Type") == _BINARY:
            shape = [int(size) for size in self.headers["X-Shape"].split(",")]
            return np.frombuffer(self.content, "<f4").reshape(shape)
        return np.array(json.loads(self.content)["embeddings"], np.float32)


class RestTransport:
    """One pool of kept-alive connections. See Transport for the methods."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self._url = url.rstrip("/")
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            connector=aiohttp.TCPConnector(limit=0),
            # The deadline of a call is given with the call.
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def infer(self, texts: Sequence[bytes], cut: Cut, timeout_s: float, call: Call) -> Embeddings:
        """See Transport."""
        if cut.left:
            raise InvalidInput("truncate_left: wanted Triton's address, got that of the REST shim: see its POST /embed")
        body = {"texts": [text.decode() for text in texts], "max_length": cut.max_length}
        headers = {**call.trace_context, **({"X-Request-ID": call.request_id} if call.request_id else {})}
        # A shim that knows only JSON answers JSON.
        answer = await self._call("POST", "/embedding", timeout_s, body, {**headers, "Accept": _BINARY})
        try:
            vectors = answer.vectors()
        except (KeyError, TypeError, ValueError) as error:
            raise ServerError(f"wanted rows of numbers from {self._url}/embedding, got something else") from error
        return decode(vectors, np.full(len(texts), UNKNOWN_TOKENS, np.int32), len(texts))

    async def tokenizer(self, timeout_s: float) -> tuple[bytes, bytes]:
        """See Transport."""
        raise InvalidInput(f"wanted Triton's address, got that of the REST shim: {self._url}")

    async def manifest(self, timeout_s: float) -> bytes:
        """See Transport. The shim words it for its users: here it gets the manifest's names back."""
        answer = await self._info(timeout_s)
        try:
            lengths = answer["limits"]["max_length"]
            names = {
                "hidden_size": answer["dimensions"],
                "max_positions": lengths["maximum"],
                "max_sequence_length": lengths["model"],
            }
        except KeyError as error:
            raise ServerError(f"wanted {error} in GET {self._url}/info, found none") from error
        return json.dumps({**answer, **names}).encode()

    async def server_name(self, timeout_s: float) -> str:
        """See Transport. Which Triton stands behind a shim is the shim's business."""
        return self._url

    async def server_version(self, timeout_s: float) -> str:
        """See Transport."""
        answer = await self._info(timeout_s)
        return str(answer["versions"]["triton"])

    async def answered(self, timeout_s: float) -> int:
        """See Transport."""
        return 0

    async def close(self) -> None:
        """See Transport."""
        await self._session.close()

    async def _info(self, timeout_s: float) -> dict[str, Any]:
        answer = _parsed((await self._call("GET", "/info", timeout_s)).content)
        if not isinstance(answer, dict):
            raise ServerError(f"wanted a JSON object from {self._url}/info, got something else")
        return answer

    async def _call(
        self, method: str, path: str, timeout_s: float, body: object = None, headers: Mapping[str, str] | None = None
    ) -> _Answer:
        # A file, because aiohttp warns of large bytes.
        data = None if body is None else io.BytesIO(json.dumps(body, ensure_ascii=False).encode())
        headers = {**(headers or {}), **({} if body is None else {"Content-Type": "application/json"})}
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(method, self._url + path, data=data, headers=headers) as response,
            ):
                content = await response.read()
        except TimeoutError as error:
            raise DeadlineExceeded(f"no answer from {self._url} in time") from error
        except aiohttp.ClientError as error:
            raise Unavailable(f"cannot reach {self._url}: {error}") from error
        if response.status != 200:
            raise _failure(response.status, response.headers, content, self._url + path)
        return _Answer(response.headers, content)


def _failure(status: int, headers: Mapping[str, str], content: bytes, url: str) -> EmbeddingError:
    """The shim's words where they are the shim's, else what stands between says something of its own."""
    match _parsed(content):
        case {"error": {"message": str(message)}}:
            words = message
        case _:
            words = "no words of the embedding service"
    if status in {404, 405}:
        words = f"wanted the REST shim's address: {words}"
    return _STATUSES.get(status, ServerError)(f"{url} answered {status}: {words}", _retry_after_s(headers))


def _parsed(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds, or a date, which proxies send."""
    value = headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())
