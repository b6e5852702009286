"""How long a pod computes, as two figures fitted to docs/benchmarks/results.json.

    seconds of a batch  =  batch_s  +  tokens in it × token_s × processors measured on ÷ processors of the pod

The packed graph computes no padding, so the number of real tokens says it all; attention's part, which grows with the
square of the length, is small at 128 tokens. `batch_s` is what does not shrink with more processors: the tokenizer,
Python's process borders, gRPC. A text has no time of its own beside its tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

__all__ = ["Point", "ServiceTime", "ShimCost", "busy_share", "fit", "fit_shim", "points"]

_SHIM = "REST shim"
_LOAD = "load generator"


@dataclass(frozen=True)
class Point:
    """One cell of the benchmark, over REST.

    Attributes:
        texts: in a batch of `bert`, on average.
        tokens: in that batch.
        seconds: from one batch to the next, all else included.
        busy: share of the processors that all of Triton's processes took.
        shim_s: processor seconds that the shim took for a request.
        request_texts: texts in a request.
    """

    name: str
    texts: float
    tokens: float
    seconds: float
    busy: float
    shim_s: float
    request_texts: int


@dataclass(frozen=True)
class ServiceTime:
    """The two figures, for a number of processors."""

    batch_s: float
    token_s: float
    processors: float

    def seconds(self, tokens: float) -> float:
        """How long a batch with so many tokens takes."""
        return self.batch_s + tokens * self.token_s

    def of_batch(self, texts: int, tokens: int) -> float:
        """The same, for `Pod`: the number of texts does not matter."""
        return self.seconds(tokens)

    def on(self, processors: float) -> ServiceTime:
        """The same service on more or fewer processors: tokens share them, the rest does not."""
        return replace(self, token_s=self.token_s * self.processors / processors, processors=processors)


@dataclass(frozen=True)
class ShimCost:
    """Processor seconds that the shim takes for each request, and for each text in it."""

    request_s: float
    text_s: float


def points(results: Mapping[str, Any]) -> list[Point]:
    """The cells in which this service was measured over REST; `results` is the content of results.json."""
    processors = results["about"]["processors"]
    found = []
    for cell in results["cells"]:
        measured = cell["measured"].get("REST")
        if measured is None:
            continue
        per_s, texts, cpu_ms = measured["texts_per_s"], measured["batch"]["bert"], measured["cpu_ms_per_text"]
        triton_ms = sum(each for name, each in cpu_ms.items() if name not in (_SHIM, _LOAD))
        found.append(
            Point(
                name=f"{cell['workload']}, {cell['texts']} × {cell['concurrency']}",
                texts=texts,
                tokens=texts * cell["mean_tokens"],
                seconds=texts / per_s,
                busy=triton_ms / 1000 * per_s / processors,
                shim_s=cpu_ms[_SHIM] / 1000 * cell["texts"],
                request_texts=cell["texts"],
            )
        )
    return found


def fit(measured: Sequence[Point], processors: float) -> ServiceTime:
    """The two figures with the least squares of relative errors."""
    seconds = np.array([point.seconds for point in measured])
    parts = np.array([[1.0, point.tokens] for point in measured]) / seconds[:, None]
    (batch_s, token_s), *_ = np.linalg.lstsq(parts, np.ones(len(measured)), rcond=None)
    return ServiceTime(float(batch_s), float(token_s), processors)


def fit_shim(measured: Sequence[Point]) -> ShimCost:
    """The shim's two figures, likewise."""
    seconds = np.array([point.shim_s for point in measured])
    parts = np.array([[1.0, point.request_texts] for point in measured]) / seconds[:, None]
    (request_s, text_s), *_ = np.linalg.lstsq(parts, np.ones(len(measured)), rcond=None)
    return ShimCost(float(request_s), float(text_s))


def busy_share(measured: Sequence[Point]) -> float:
    """The share of its processors that Triton takes while it computes: ONNX Runtime's threads spin while they wait."""
    return min(1.0, median(point.busy for point in measured))
