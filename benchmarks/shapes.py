"""How requests and answers look with the servers that can be measured.

texts  ->  POST body  ->  answer's body  ->  its vectors, or only their number, which is cheap enough for every answer
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["SHAPES", "Shape"]


@dataclass(frozen=True)
class Shape:
    """One way of asking for vectors over HTTP. `takes_max_length` tells whether a request can say where to cut."""

    path: str
    takes_max_length: bool
    body: Callable[[Sequence[str], int, str], dict[str, Any]]  # texts, max_length, model
    vectors: Callable[[Any], list[list[float]]]
    count: Callable[[bytes], int]


def _count_lists(body: bytes) -> int:
    return body.count(b"[") - 1


def _count_openai(body: bytes) -> int:
    # Keys only: an item's "object" has the value "embedding".
    return body.count(b'"embedding":') + body.count(b'"embedding" :')


SHAPES: Final = {
    # The reference service's, and ours.
    "embedding": Shape(
        "/embedding",
        True,
        lambda texts, max_length, _: {"texts": list(texts), "max_length": max_length},
        lambda answer: answer["embeddings"],
        _count_lists,
    ),
    # OpenAI and all that speak like it: vLLM, Infinity, llama.cpp, Ollama.
    "openai": Shape(
        "/v1/embeddings",
        False,
        lambda texts, _, model: {"input": list(texts), "model": model, "encoding_format": "float"},
        lambda answer: [item["embedding"] for item in answer["data"]],
        _count_openai,
    ),
    # Hugging Face's text-embeddings-inference. It normalises by default.
    "tei": Shape(
        "/embed",
        False,
        lambda texts, _, __: {"inputs": list(texts), "truncate": True},
        lambda answer: answer,
        _count_lists,
    ),
}


def encoded(shape: Shape, texts: Sequence[str], max_length: int, model: str) -> bytes:
    """A request's body."""
    return json.dumps(shape.body(texts, max_length, model), ensure_ascii=False).encode()
