"""Pooling of token states into one vector per text, without Triton.

    states: (n, sequence, hidden) float32, mask: (n, sequence) integers  ->  (n, hidden) float32

A mask value other than 0 counts as 1. A row without any token gives zeros. Padding never has a part in the vector.
The modes are those of sentence-transformers (`pooling_mode_*_tokens` of 1_Pooling/config.json).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

States = npt.NDArray[np.float32]
Mask = npt.NDArray[np.integer[Any]]
Pool = Callable[[States, Mask], States]


def mean(states: States, mask: Mask) -> States:
    """The mean of the tokens' states."""
    # float32 on purpose: an int64 mask times float32 states would silently become float64.
    weights = (mask != 0).astype(np.float32)  # (n, sequence)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
    pooled: States = np.matmul(weights[:, None, :], states)[:, 0, :]
    return pooled


def cls(states: States, mask: Mask) -> States:
    """The state of the first token."""
    return np.where((mask[:, :1] != 0), states[:, 0, :], np.float32(0.0))


def maximum(states: States, mask: Mask) -> States:
    """The largest of the tokens' states, component by component."""
    kept = np.where((mask != 0)[:, :, None], states, np.float32(-np.inf)).max(axis=1)
    return np.where((mask != 0).any(axis=1, keepdims=True), kept, np.float32(0.0))


POOLS: Final[dict[str, Pool]] = {"mean": mean, "cls": cls, "max": maximum}
