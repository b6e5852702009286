"""Between texts and tensors, without a network: what both transports send and what they get back.

texts: list[str]  ->  list[bytes] (UTF-8)  ->  TEXT BYTES (n, 1), MAX_LENGTH INT32 (n, 1), TRUNCATE_LEFT BOOL (n, 1)
EMBEDDING FP32 (n, hidden), TOKENS INT32 (n, 1)  ->  Embeddings
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client._manifest import Manifest
from client.errors import InvalidInput, ServerError

__all__ = [
    "MIN_LENGTH",
    "UNKNOWN_TOKENS",
    "Cut",
    "Embeddings",
    "check_max_length",
    "cut_of",
    "decode",
    "encode",
    "normalized",
    "packed_bytes",
    "pieces",
]

# Every text has two special tokens, so nothing shorter than them can be asked for.
MIN_LENGTH = 2
# The token count of a text where the server does not tell it.
UNKNOWN_TOKENS = -1


@dataclass(frozen=True)
class Cut:
    """What becomes of a text that is too long.

    Attributes:
        max_length: tokens that are kept, special tokens included.
        left: cut its beginning and keep its end, instead of the other way round.
    """

    max_length: int
    left: bool = False


@dataclass(frozen=True)
class Embeddings:
    """Vectors and token counts, in the order of the texts.

    Attributes:
        vectors: (n, hidden) float32.
        tokens: (n,) int32, what the model saw of each text, special tokens included; -1 through the REST shim, whose
            answer does not tell.
        digest: of the model that made all of them, as in its manifest; "" for one piece of a call, which does not know.
    """

    vectors: NDArray[np.float32]
    tokens: NDArray[np.int32]
    digest: str = ""


def encode(texts: Iterable[str]) -> list[bytes]:
    """Check the texts and encode them as UTF-8.

    Raises:
        InvalidInput: not a list of strings, or a string that no encoding can carry; names the item and its type, never
            the text itself.
    """
    if isinstance(texts, str | bytes):
        raise InvalidInput(f"texts: wanted a list of strings, got one {_name(texts)}; for one text pass [text]")
    if not isinstance(texts, Iterable):
        raise InvalidInput(f"texts: wanted a list of strings, got {_name(texts)}")
    encoded = []
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInput(f"texts[{index}]: wanted a string, got {_name(text)}")
        try:
            encoded.append(text.encode())
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"texts[{index}]: wanted Unicode text, got a lone surrogate at character {error.start}"
            ) from error
    return encoded


def check_max_length(max_length: object, positions: int) -> int:
    """The token limit, if it is one that a model with that many positions can take.

    Raises:
        InvalidInput: names both bounds and what came.
    """
    wanted = f"max_length: wanted an integer from {MIN_LENGTH} to {positions} (the model's positions)"
    if isinstance(max_length, bool) or not isinstance(max_length, int | np.integer):
        raise InvalidInput(f"{wanted}, got {_name(max_length)}")
    limit = int(max_length)
    if not MIN_LENGTH <= limit <= positions:
        raise InvalidInput(f"{wanted}, got {limit if abs(limit) < 10**20 else 'a number of more than 20 digits'}")
    return limit


def cut_of(max_length: object, left: bool, model: Manifest) -> Cut:
    """What a call's limit means with this model: None is the model's own.

    Raises:
        InvalidInput: a limit that the model cannot take; names both bounds and what came.
    """
    if max_length is None:
        return Cut(model.max_sequence_length, left)
    return Cut(check_max_length(max_length, model.max_positions), left)


def pieces(count: int, size: int) -> list[slice]:
    """Cut `count` texts into the fewest pieces of at most `size`, as even as can be, in order.

    Even pieces (33 + 32 rather than 64 + 1) finish together.
    """
    number = -(-count // size)
    bounds = [count * index // number for index in range(number + 1)] if number else [0]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]


def packed_bytes(texts: Sequence[bytes]) -> bytes:
    """A BYTES tensor as it travels: each text after its length in four little-endian bytes."""
    parts = []
    for text in texts:
        parts.append(len(text).to_bytes(4, "little"))
        parts.append(text)
    return b"".join(parts)


def decode(vectors: NDArray[np.float32], tokens: NDArray[np.int32], count: int) -> Embeddings:
    """Check an answer against the number of texts asked for.

    Raises:
        ServerError: another number of vectors or counts than texts.
    """
    if vectors.ndim != 2 or len(vectors) != count or tokens.size != count:
        raise ServerError(
            f"wanted EMBEDDING ({count}, hidden) and TOKENS ({count}, 1), got {vectors.shape} and {tokens.shape}"
        )
    return Embeddings(vectors, tokens.reshape(count))


def normalized(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row scaled to length 1; a row of zeros stays zeros. (n, hidden) float32 -> the same."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: NDArray[np.float32] = vectors / np.maximum(norms, np.float32(1e-12))
    return result


def _name(value: object) -> str:
    return "None" if value is None else type(value).__name__
