"""From measurements to figures: one measurement of one side, and the medians over its rounds.

cell (workload, texts per request, concurrency) × side × round  ->  Measurement  ->  Figures
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from benchmarks.triton_statistics import Step

__all__ = ["Cell", "Figures", "Measurement", "summarize"]


@dataclass(frozen=True)
class Cell:
    """What is asked of each side. `sides` limits a cell to some of them; none means all."""

    workload: str
    texts: int  # per request
    concurrency: int
    max_length: int = 128
    sides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As tables and plots call it."""
        cut = "" if self.max_length == 128 else f", {self.max_length} tokens"
        return f"{self.workload}{cut}, {self.texts} × {self.concurrency}"

    def wants(self, side: str) -> bool:
        """Whether this side is measured here."""
        return not self.sides or side in self.sides


@dataclass(frozen=True)
class Measurement:
    """One side in one round. Processor time is per text, by process; memory in bytes after the measurement."""

    texts_per_s: float
    tokens_per_s: float
    latencies_ms: Sequence[float]
    cpu_ms_per_text: Mapping[str, float] = field(default_factory=dict)
    rss: Mapping[str, int] = field(default_factory=dict)
    peak_rss: Mapping[str, int] = field(default_factory=dict)
    steps: Mapping[str, Step] = field(default_factory=dict)
    disturbed: float = 0.0  # processors that others used meanwhile


@dataclass(frozen=True)
class Figures:
    """Medians over the rounds; the latencies' percentiles are over all requests of all rounds."""

    texts_per_s: float
    tokens_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    requests: int
    rounds_texts_per_s: tuple[float, ...]
    rounds_p50_ms: tuple[float, ...]
    cpu_ms_per_text: Mapping[str, float]
    rss: Mapping[str, int]
    peak_rss: Mapping[str, int]
    batch: Mapping[str, float]  # texts per execution, by step
    step_ms: Mapping[str, Mapping[str, float]]  # of one request, by step and part
    disturbed: float


def summarize(measurements: Sequence[Measurement]) -> Figures:
    """The figures of one side in one cell, from its rounds."""
    latencies = np.concatenate([np.asarray(each.latencies_ms) for each in measurements])
    p50, p95, p99 = (float(value) for value in np.percentile(latencies, (50, 95, 99)))
    last = measurements[-1]
    return Figures(
        texts_per_s=median(each.texts_per_s for each in measurements),
        tokens_per_s=median(each.tokens_per_s for each in measurements),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        requests=len(latencies),
        rounds_texts_per_s=tuple(each.texts_per_s for each in measurements),
        rounds_p50_ms=tuple(float(np.median(each.latencies_ms)) for each in measurements),
        cpu_ms_per_text={
            name: median(each.cpu_ms_per_text.get(name, 0.0) for each in measurements) for name in last.cpu_ms_per_text
        },
        rss=dict(last.rss),
        peak_rss=dict(last.peak_rss),
        batch={name: median(each.steps[name].batch for each in measurements) for name in last.steps},
        step_ms={
            name: {part: median(each.steps[name].per_request()[part] for each in measurements) for part in parts}
            for name, step in last.steps.items()
            if (parts := step.per_request())
        },
        disturbed=max(each.disturbed for each in measurements),
    )


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over the rounds of one round's ratio: what disturbs a round disturbs both."""
    return median(mine / other for mine, other in zip(ours, theirs, strict=True))
