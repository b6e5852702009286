"""The REST shim as a transport: for machines that reach the shim only, and for keys, which Triton does not know.

texts  ->  POST /embedding, JSON  ->  {"embeddings": [[…]]}  ->  (n, hidden) float32

Token counts are not part of that answer: they are `UNKNOWN_TOKENS`.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import numpy as np

from client._call import Call
from client._wire import UNKNOWN_TOKENS, Embeddings, decode
from client.errors import (
    DeadlineExceeded,
    EmbeddingError,
    InvalidInput,
    Overloaded,
    ServerError,
    Unavailable,
)

__all__ = ["RestTransport"]

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

    async def infer(self, texts: Sequence[bytes], max_length: int, timeout_s: float, call: Call) -> Embeddings:
        """See Transport."""
        body = {"texts": [text.decode() for text in texts], "max_length": max_length}
        headers = {**call.trace_context, **({"X-Request-ID": call.request_id} if call.request_id else {})}
        answer = await self._call("POST", "/embedding", timeout_s, body, headers)
        try:
            vectors = np.array(answer["embeddings"], np.float32)
        except (KeyError, ValueError) as error:
            raise ServerError(f"wanted {{'embeddings': rows of numbers}} from {self._url}, got others") from error
        return decode(vectors, np.full(len(texts), UNKNOWN_TOKENS, np.int32), len(texts))

    async def manifest(self, timeout_s: float) -> bytes:
        """See Transport. The shim words it for its users: here it gets the manifest's names back."""
        answer = await self._call("GET", "/info", timeout_s)
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

    async def server_version(self, timeout_s: float) -> str:
        """See Transport."""
        answer = await self._call("GET", "/info", timeout_s)
        return str(answer["versions"]["triton"])

    async def close(self) -> None:
        """See Transport."""
        await self._session.close()

    async def _call(
        self, method: str, path: str, timeout_s: float, body: object = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
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
        answer = _parsed(content)
        if not isinstance(answer, dict):
            raise ServerError(f"wanted a JSON object from {self._url + path}, got something else")
        return answer


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
