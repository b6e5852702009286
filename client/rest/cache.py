"""Vectors in memory: records of one model, by text and by where it is cut, bounded in bytes.

text, where it is cut  ->  key (24 bytes)  ->  record (token count and vector, as bytes)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from moka_py import Moka
from numpy.typing import NDArray

from client import Embeddings
from client._wire import Cut

__all__ = ["OVERHEAD_BYTES", "VectorCache", "from_records", "key_of", "to_records"]

# What an entry costs beside its record: key, objects' headers, its share of the tables, and what the allocator loses.
# Measured with bounds of 16 to 256 MiB and 32 to 1,024 dimensions (docs/adr/0007-cache.md); a test holds it.
OVERHEAD_BYTES = 600
# 192 bits: nobody finds two texts of one key. A Python object of it takes no more memory than one of 128 bits.
_KEY_BYTES = 24


class VectorCache:
    """Records by key; used within one event loop.

    A record is bytes, so that nothing that is done to an answer changes it.

    What goes when it is full is chosen by TinyLFU, not by age alone: texts that come once, as in the indexing of many
    documents, do not drive out those that come again and again.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._digest = ""
        self._records = self._empty()

    def find(self, digest: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The records made by the model of that digest; those of any other model are forgotten."""
        if digest != self._digest:
            self._digest = digest
            self._records = self._empty()
        return [self._records.get(key) for key in keys]

    def keep(self, digest: str, keys: Sequence[bytes], records: Sequence[bytes]) -> None:
        """Keep records made by the model of that digest, unless another model was asked for since."""
        if digest == self._digest:
            for key, record in zip(keys, records, strict=True):
                self._records.set(key, record)

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, `OVERHEAD_BYTES` included."""
        self._records.run_pending_tasks()
        return self._records.weighted_size()

    @property
    def entries(self) -> int:
        """How many records there are."""
        self._records.run_pending_tasks()
        return self._records.count()

    def _empty(self) -> Moka[bytes, bytes]:
        return Moka(self._max_bytes, policy="tiny_lfu", weigher=_weight)


def _weight(_: bytes, record: bytes) -> int:
    return len(record) + OVERHEAD_BYTES


def key_of(text: bytes, cut: Cut) -> bytes:
    """What stands for a text, cut in that way. The text itself, which may be long and is private, is not kept."""
    salt = cut.max_length.to_bytes(8, "little") + bytes([cut.left])
    return hashlib.blake2b(text, digest_size=_KEY_BYTES, salt=salt).digest()


def to_records(vectors: NDArray[np.float32], tokens: NDArray[np.int32]) -> list[bytes]:
    """(n, hidden) float32, (n,) int32  ->  n records."""
    table = np.empty(len(vectors), _record_type(vectors.shape[1]))
    table["vector"], table["tokens"] = vectors, tokens
    return [record.tobytes() for record in table]


def from_records(records: Sequence[bytes], hidden: int, digest: str) -> Embeddings:
    """The other way round; the arrays are copies."""
    table = np.frombuffer(b"".join(records), _record_type(hidden))
    return Embeddings(table["vector"].copy(), table["tokens"].copy(), digest)


def _record_type(hidden: int) -> np.dtype[np.void]:
    return np.dtype([("tokens", "<i4"), ("vector", "<f4", (hidden,))])
