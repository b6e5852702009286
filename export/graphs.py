"""Chooses how the graph is written: the seam where another way of exporting plugs in.

A way of exporting is a module with two functions (see `Exporter`). The padded graph exports every encoder; the packed
one computes on real tokens only, and says of which models it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from export import packed, padded
from export.encoder import Encoder
from export.errors import UnsupportedGraph, UnsupportedPrecision

__all__ = ["GRAPHS", "PRECISIONS", "Choice", "Exporter", "Race", "choose", "require_precision"]

GRAPHS = ("auto", "packed", "padded")
PRECISIONS = ("fp32", "fp16", "int8")


class Exporter(Protocol):
    """A module that writes graphs."""

    def unsupported_reason(self, model: torch.nn.Module) -> str | None:
        """Why this way of exporting cannot take the module, or None if it can."""

    def to_onnx(self, encoder: Encoder, path: Path) -> None:
        """Writes the graph to `path` (and `path`.data, see onnx_file.py)."""


PADDED: Exporter = padded
PACKED: Exporter = packed

# Writes graphs and times them: texts per second, by the same names. Nothing if they cannot be timed here.
Race = Callable[[Mapping[str, Exporter]], Mapping[str, float]]


@dataclass(frozen=True)
class Choice:
    """Which graph is written, and why, for the manifest. `texts_per_s` is what a race measured, by graph."""

    graph: str
    reason: str
    exporter: Exporter
    texts_per_s: Mapping[str, float] = field(default_factory=dict)


def choose(encoder: Encoder, graph: str, race: Race | None = None) -> Choice:
    """`auto` takes the packed graph where it can; if there is a race, the faster one of both.

    Raises UnsupportedGraph if `packed` is asked for and cannot be.
    """
    if graph not in GRAPHS:
        raise UnsupportedGraph(f"wanted a graph out of {', '.join(GRAPHS)}, got {graph!r}")
    if graph == "padded":
        return Choice("padded", "asked for", PADDED)
    obstacle = PACKED.unsupported_reason(encoder.model)
    if obstacle is not None:
        if graph == "packed":
            raise UnsupportedGraph(f"{encoder.facts.model} cannot have the packed graph: {obstacle}")
        return Choice("padded", str(obstacle), PADDED)
    if graph == "packed":
        return Choice("packed", "asked for", PACKED)
    runners = {"packed": PACKED, "padded": PADDED}
    texts_per_s = race(runners) if race is not None else {}
    if not any(texts_per_s.values()):
        return Choice("packed", "supported by this encoder", PACKED)
    fastest = max(runners, key=lambda name: texts_per_s[name])
    return Choice(fastest, "the faster one where it was exported", runners[fastest], texts_per_s)


def require_precision(precision: str) -> None:
    """Raises UnsupportedPrecision unless the precision is offered."""
    if precision not in PRECISIONS:
        raise UnsupportedPrecision(f"wanted a precision out of {', '.join(PRECISIONS)}, got {precision!r}")
