"""How many operations the real tokens of some texts need in a BERT, without any padding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.errors import BenchmarkError

__all__ = ["Encoder", "flops"]


@dataclass(frozen=True)
class Encoder:
    """What decides the arithmetic of a BERT."""

    layers: int
    hidden: int
    intermediate: int

    @classmethod
    def read(cls, config: Path) -> Self:
        """From the config.json of a transformers model."""
        values = json.loads(config.read_text())
        # DistilBERT has names of its own.
        return cls(
            _first(values, "num_hidden_layers", "n_layers"),
            _first(values, "hidden_size", "dim"),
            _first(values, "intermediate_size", "hidden_dim"),
        )


def flops(encoder: Encoder, tokens: Sequence[int]) -> float:
    """Operations of the linear layers and of attention for texts of so many tokens."""
    linear = 2 * (4 * encoder.hidden**2 + 2 * encoder.hidden * encoder.intermediate)  # Q, K, V, output; up, down
    attention = 4 * encoder.hidden  # scores and weighted sum, per pair of tokens
    return float(encoder.layers * sum(linear * count + attention * count**2 for count in tokens))


def _first(values: dict[str, Any], *names: str) -> int:
    for name in names:
        if name in values:
            return int(values[name])
    raise BenchmarkError(f"config.json: wanted one of {', '.join(names)}, got {', '.join(sorted(values))}")
