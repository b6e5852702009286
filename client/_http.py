"""Triton over HTTP, on tritonclient's asynchronous client; tensors travel in binary form, not as JSON numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

import aiohttp
import numpy as np
from tritonclient.http import InferInput, InferRequestedOutput
from tritonclient.http.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from client._call import Call
from client._transport import ENSEMBLES, MANIFEST_STEP
from client._wire import MIN_LENGTH, Cut, Embeddings, decode
from client.errors import DeadlineExceeded, InvalidInput, ServerError, Unavailable, from_status

__all__ = ["HttpTransport"]


class HttpTransport:
    """One pool of kept-alive connections. See Transport for the methods."""

    def __init__(self, address: str, ensemble: str) -> None:
        self._address = address
        self._ensemble = ensemble
        # The deadline of a call is given with the call; the client's own must not undercut it.
        self._client = InferenceServerClient(address, conn_limit=0, conn_timeout=None)

    async def infer(self, texts: Sequence[bytes], cut: Cut, timeout_s: float, call: Call) -> Embeddings:
        """See Transport."""
        result = await self._infer(self._ensemble, texts, cut, ("EMBEDDING", "TOKENS"), timeout_s, call)
        vectors, tokens = result.as_numpy("EMBEDDING"), result.as_numpy("TOKENS")
        if vectors is None or tokens is None:
            raise ServerError("wanted EMBEDDING and TOKENS, got only one of them or none")
        return decode(vectors, tokens, len(texts))

    async def manifest(self, timeout_s: float) -> bytes:
        """See Transport."""
        (manifest,) = await self._files(("MANIFEST",), timeout_s)
        return manifest

    async def tokenizer(self, timeout_s: float) -> tuple[bytes, bytes]:
        """See Transport."""
        manifest, tokenizer = await self._files(("MANIFEST", "TOKENIZER"), timeout_s)
        return manifest, tokenizer

    async def server_name(self, timeout_s: float) -> str:
        """See Transport."""
        return str((await self._call(self._client.get_server_metadata(), timeout_s))["name"])

    async def server_version(self, timeout_s: float) -> str:
        """See Transport."""
        metadata = await self._call(self._client.get_server_metadata(), timeout_s)
        return str(metadata["version"])

    async def answered(self, timeout_s: float) -> int:
        """See Transport."""
        total = 0
        for name in ENSEMBLES:
            answer = await self._call(self._client.get_inference_statistics(name), timeout_s)
            total += sum(each["inference_stats"]["success"]["count"] for each in answer["model_stats"])
        return total

    async def close(self) -> None:
        """See Transport."""
        await self._client.close()

    async def _files(self, names: tuple[str, ...], timeout_s: float) -> list[bytes]:
        result = await self._infer(MANIFEST_STEP, [b""], Cut(MIN_LENGTH), names, timeout_s, Call())
        return [bytes(result.as_numpy(name).item()) for name in names]

    async def _infer(
        self,
        model: str,
        texts: Sequence[bytes],
        cut: Cut,
        outputs: tuple[str, ...],
        timeout_s: float,
        call: Call,
    ) -> Any:
        shape = (len(texts), 1)
        text = InferInput("TEXT", shape, "BYTES")
        text.set_data_from_numpy(np.array(texts, dtype=np.object_).reshape(shape))
        limit = InferInput("MAX_LENGTH", shape, "INT32")
        limit.set_data_from_numpy(np.full(shape, cut.max_length, np.int32))
        inputs = [text, limit]
        if cut.left:
            # Only then: Triton batches no request that has an optional tensor with those that have not.
            left = InferInput("TRUNCATE_LEFT", shape, "BOOL")
            left.set_data_from_numpy(np.ones(shape, np.bool_))
            inputs.append(left)
        wanted = [InferRequestedOutput(name) for name in outputs]
        answer = self._client.infer(
            model, inputs, outputs=wanted, request_id=call.request_id, headers=dict(call.trace_context)
        )
        return await self._call(answer, timeout_s)

    async def _call(self, answer: Awaitable[Any], timeout_s: float) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except InferenceServerException as error:
            if isinstance(error.message(), dict):  # Triton's are strings; the shim's are objects
                raise InvalidInput(
                    f"wanted Triton at http://{self._address}, found the REST shim: rest+http://{self._address}"
                ) from error
            raise from_status(error.status(), error.message()) from error
        except TimeoutError as error:
            raise DeadlineExceeded(f"no answer from http://{self._address} in time") from error
        except aiohttp.ClientError as error:
            raise Unavailable(f"cannot reach http://{self._address}: {error}") from error
