"""The gate of int8: whether its vectors are good enough on real texts, run at every int8 export.

real_texts.py  ->  vectors: (texts, hidden), of the float32 graph and of the int8 graph, in batches of BATCH and alone
               ->  three figures, each with a bar:

    cosine      of the int8 and the float32 vector, mean over the texts
    neighbours  the worst cosine of a text alone and the same text in its batch, both int8
    ranking     of a text's ten nearest by float32, the share that is among its ten nearest by int8, mean over the texts

The ranking is by neighbours and not by a rank correlation over all pairs, because users see the nearest only: nearly
all pairs are unrelated, and a variant that replaced more than a tenth of the nearest still had a correlation of 0.990.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export import real_texts, runtimes, verify
from export.encoder import Encoder
from export.errors import ShapesDiffer, VerificationFailed
from export.runtimes import Runtime
from export.verify import Check, OnCheck

__all__ = ["BARS", "Int8Inaccurate", "Vectors", "figures", "require", "vectors"]

BARS: Mapping[str, float] = {"cosine": 0.99, "neighbours": 0.99, "ranking": 0.9}
BATCH = 32
ALONE = 64  # the first so many texts are run alone too
NEAREST = 10

Floats = npt.NDArray[np.float64]


class Int8Inaccurate(VerificationFailed):
    """The int8 graph's vectors differ too much from the float32 graph's. All figures that miss their bar are said."""

    rung = "int8 gate"


@dataclass(frozen=True)
class Vectors:
    """Pooled vectors of the gate's texts."""

    batched: Floats  # (texts, hidden)
    alone: Floats  # (ALONE, hidden), the first texts


def vectors(encoder: Encoder, graph: Path, runtime: Runtime) -> Vectors:
    """Of the graph at `graph`."""
    rows = real_texts.token_ids(encoder)
    groups = {f"batch {start}": rows[start : start + BATCH] for start in range(0, len(rows), BATCH)}
    groups |= {f"alone {index}": [row] for index, row in enumerate(rows[:ALONE])}
    feeds = {name: real_texts.feed(group, encoder.facts.pad_token_id) for name, group in groups.items()}
    results = runtimes.run(runtime, graph, feeds)
    pooled: dict[str, list[Floats]] = {"batch": [], "alone": []}
    for name, feed in feeds.items():
        states = results.outputs[name]
        if isinstance(states, str):
            raise ShapesDiffer([f"{results.version}, {name} of the int8 gate: {states}"])
        pooled[name.split()[0]].append(verify.pooled(states, feed["attention_mask"], encoder.facts.pooling))
    return Vectors(np.concatenate(pooled["batch"]), np.concatenate(pooled["alone"]))


def figures(wanted: Vectors, got: Vectors) -> dict[str, float]:
    """wanted: float32; got: int8."""
    return {
        "cosine": float(_cosine(wanted.batched, got.batched).mean()),
        "neighbours": float(_cosine(got.alone, got.batched[: len(got.alone)]).min()),
        "ranking": _shared_nearest(wanted.batched, got.batched),
    }


def require(wanted: Vectors, got: Vectors, label: str, on_check: OnCheck) -> None:
    """Raises Int8Inaccurate if a figure misses its bar; reports all of them."""
    found = figures(wanted, got)
    line = ", ".join(f"{name} {found[name]:.4f} (at least {bar})" for name, bar in BARS.items())
    # This way round, NaN fails.
    missed = [f"{name} is {found[name]:.4f}, wanted {bar}" for name, bar in BARS.items() if not found[name] >= bar]
    on_check(Check(Int8Inaccurate.rung, not missed, f"{label}: {line}"))
    if missed:
        raise Int8Inaccurate(
            [f"{label}: {line}", *missed, "too inaccurate in int8; export it in fp32 (docs/precision.md)"]
        )


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def _cosine(one: Floats, other: Floats) -> Floats:
    return np.asarray((_unit(one) * _unit(other)).sum(axis=-1))


def _shared_nearest(wanted: Floats, got: Floats) -> float:
    if not np.isfinite(got).all():
        return float("nan")
    ours, theirs = (_nearest(rows) for rows in (got, wanted))
    return float(np.mean([len(set(a) & set(b)) / NEAREST for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]))


def _nearest(rows: Floats) -> npt.NDArray[np.intp]:
    """(texts, hidden) -> (texts, NEAREST) indices, the text itself left out."""
    likeness = _unit(rows) @ _unit(rows).T
    np.fill_diagonal(likeness, -np.inf)
    return np.asarray(np.argsort(-likeness, axis=1, kind="stable")[:, :NEAREST])
