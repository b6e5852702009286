"""What a Triton server is asked over HTTP: whether it embeds, whether each step answers, and what it has finished.

Requests are the smallest that a step takes. Nothing here raises for a server that is away, slow or broken: an answer is
an answer, and whoever wants to know waits for it as long as it sees fit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Sequence
from typing import Any

import httpx

from export.manifest import Manifest
from server.errors import StartError
from server.probe import EMBEDDING

__all__ = ["STEPS", "EnsembleQuestion", "StepQuestion", "embeds"]

# Triton opens its ports when all is loaded; the first embedding is then asked for with this much time.
_FIRST_S = 5.0
_STATISTICS_S = 0.5
# Triton's words for a step whose process is stopped, dead, or had no processor time for a second: no answer of it.
_UNHEALTHY = "is not healthy"
_ASK_AGAIN_S = 0.5
# ONNX Runtime's words for a failed CUDA call, with its number. 2 is "out of memory", which passes; the others stay
# until the process ends.
_CUDA_FAILURE = re.compile(r"\bCUDA failure (?!2\b)\d+")
# So many answers in turn must tell of it.
_CUDA_ANSWERS = 3


def _tensor(name: str, datatype: str, shape: Sequence[int], data: Sequence[object]) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": list(data)}


_TEXT = EMBEDDING["inputs"]
_IDS = [_tensor(name, "INT64", (1, 2), [1, 1]) for name in ("input_ids", "attention_mask", "token_type_ids")]
_STATES = [_tensor("last_hidden_state", "FP32", (1, 1, 1), [1.0]), _tensor("attention_mask", "INT64", (1, 1), [1])]
# The repository's steps, with what each takes.
STEPS = {"tokenizer": _TEXT, "bert": _IDS, "pooling": _STATES}


async def embeds(url: str, name: str, manifest: Manifest) -> bool:
    """Whether the server of this name embeds, and not another one on the same port, with the model of the manifest.

    Raises:
        StartError: it has another model.
    """
    # Neither proxies nor certificates: both would be read from the environment and from files, each time.
    transport = httpx.AsyncHTTPTransport(verify=False, limits=httpx.Limits(max_connections=1))
    with contextlib.suppress(httpx.TransportError):
        async with httpx.AsyncClient(transport=transport, base_url=url, timeout=_FIRST_S) as http:
            if not await _is_called(http, name):
                return False
            told = await _infer(http, "tokenizer", _TEXT, "MANIFEST")
            vector = await _infer(http, "embedding", _TEXT, "EMBEDDING")
            # If the one connection stood all the time, the answers were this server's.
            if not await _is_called(http, name) or {told.status_code, vector.status_code} != {httpx.codes.OK}:
                return False
            found = json.loads(_data(told)[0])["digest"], len(_data(vector))
            if found != (manifest.digest, manifest.hidden_size):
                raise StartError(
                    f"the model changed while Triton loaded it: wanted {manifest.digest} with {manifest.hidden_size} "
                    f"dimensions, Triton has {found[0]} with {found[1]}"
                )
            return True
    return False


class EnsembleQuestion:
    """An embedding through all steps."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._cuda_failures = 0

    async def __call__(self) -> str | None:
        """Ask until a step answers; says why all is lost if this answer and those before it tell so."""
        answer = await _answer(self._http, "embedding", _TEXT)
        self._cuda_failures = self._cuda_failures + 1 if _CUDA_FAILURE.search(answer) else 0
        return "CUDA has failed for good" if self._cuda_failures >= _CUDA_ANSWERS else None


class StepQuestion:
    """The smallest request to one step, and the number of those of everybody that it has answered well."""

    def __init__(self, http: httpx.AsyncClient, step: str) -> None:
        self._http = http
        self._step = step
        self._finished = 0

    async def __call__(self) -> None:
        """Ask until it answers."""
        await _answer(self._http, self._step, STEPS[self._step])

    async def finished(self) -> int:
        """By Triton's statistics; the last known number if it does not tell."""
        with contextlib.suppress(httpx.TransportError, TimeoutError, KeyError, ValueError):
            async with asyncio.timeout(_STATISTICS_S):
                answer = await self._http.get(f"/v2/models/{self._step}/stats")
            self._finished = answer.json()["model_stats"][0]["inference_stats"]["success"]["count"]
        return self._finished


async def _answer(http: httpx.AsyncClient, model: str, inputs: object) -> str:
    while True:
        try:
            answer = (await _infer(http, model, inputs)).text
        except httpx.TransportError as error:
            return str(error)  # Triton's own end is seen elsewhere
        if _UNHEALTHY not in answer:
            return answer
        await asyncio.sleep(_ASK_AGAIN_S)


async def _is_called(http: httpx.AsyncClient, name: str) -> bool:
    answer = await http.get("/v2")
    return answer.status_code == httpx.codes.OK and answer.json().get("name") == name


async def _infer(http: httpx.AsyncClient, model: str, inputs: object, output: str | None = None) -> httpx.Response:
    body = {"inputs": inputs, **({"outputs": [{"name": output}]} if output else {})}
    return await http.post(f"/v2/models/{model}/infer", json=body)


def _data(answer: httpx.Response) -> list[Any]:
    data: list[Any] = answer.json()["outputs"][0]["data"]
    return data
