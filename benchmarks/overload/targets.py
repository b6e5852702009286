"""What is to be reached, and whether it was."""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.overload.runner import Results

__all__ = ["Target", "targets"]

_PROCESSES_GROW = 1.10


@dataclass(frozen=True)
class Target:
    """A figure and its bar: a largest value, or a least one."""

    figure: str
    measured: float
    most: float | None = None
    least: float | None = None
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether it was reached; what was not measured (NaN) was not."""
        if math.isnan(self.measured):
            return False
        return (self.most is None or self.measured <= self.most) and (self.least is None or self.measured >= self.least)

    @property
    def wanted(self) -> str:
        """The bar, as a page shows it."""
        if self.most is None:
            return f"≥ {self.least:g}{self.unit}"
        return f"≤ {self.most:g}{self.unit}"


def targets(results: Results) -> list[Target]:
    """All targets; ratios are medians of the rounds."""
    storm = results.storm
    found = []
    for mix in results.rounds:
        levels = [each.levels[10.0] for each in results.rounds[mix]]
        found += [
            Target(f"{mix}: p95 of the accepted at 10 times the capacity ÷ at 0.8 times", results.slowdown(mix), 3.0),
            Target(f"{mix}: goodput at 10 times ÷ capacity", results.goodput(mix), least=0.9),
            Target(
                f"{mix}: 99 % of the refused knew it after",
                max(each.refused_ms.p99 for each in levels),
                100,
                unit=" ms",
            ),
        ]
    name = f"storm of {storm.storm.seconds:.0f} s"
    return [
        *found,
        Target("requests that were neither answered nor refused with a time to come back", _failed(results), 0),
        Target(f"{name}: p95 of the accepted ÷ that at 0.8 times the capacity", storm.slowdown, 3.0),
        Target(f"{name}: goodput ÷ capacity", storm.goodput, least=0.9),
        Target(f"{name}: 99 % of the refused knew it after", storm.storm.refused_ms.p99, 100, unit=" ms"),
        Target(f"{name}: probes that failed, of {storm.probes}", len(storm.probe_failures), 0),
        Target(f"{name}: processes that were replaced", storm.replaced, 0),
        Target(
            f"{name}: memory at its most ÷ before", storm.memory["all"] / storm.memory_before["all"], _PROCESSES_GROW
        ),
        Target(f"{name}: as usual again after", storm.recovery_s, 5, unit=" s"),
    ]


def _failed(results: Results) -> int:
    storm = results.storm
    levels = [storm.before, storm.calm, storm.storm, storm.after, results.giants.alone, results.giants.beside]
    levels += [level for rounds in results.rounds.values() for each in rounds for level in each.levels.values()]
    return sum(sum(level.failed.values()) for level in levels)
