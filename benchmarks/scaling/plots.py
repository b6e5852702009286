"""The simulated days as pictures."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # no screen needed; before pyplot
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, MultipleLocator
from numpy.typing import NDArray

from benchmarks.scaling.cluster import Outcome
from benchmarks.scaling.scenarios import SPIKE_S

__all__ = ["draw"]

_MINUTE_S = 60


def draw(days: Mapping[str, Outcome], directory: Path) -> list[str]:
    """Write day.png (the shipped autoscaler, midnight to midnight) and spike.png (all of them, around the spike)."""
    _columns({"shipped": days["shipped"]}, (0.0, 86_400.0), 5 * _MINUTE_S, directory / "day.png")
    around = (SPIKE_S[0] - 5 * _MINUTE_S, SPIKE_S[1] + 20 * _MINUTE_S)
    _columns(days, around, 20, directory / "spike.png")
    return ["day.png", "spike.png"]


def _columns(days: Mapping[str, Outcome], seconds: tuple[float, float], bin_s: int, path: Path) -> None:
    """One column of four pictures for each day: load, pods, refused, latency."""
    figure, axes = plt.subplots(
        4, len(days), figsize=(max(8.0, 2.2 * len(days)), 8.0), layout="constrained", sharex=True, sharey="row",
        squeeze=False, height_ratios=(1, 1, 1, 1.3),
    )  # fmt: skip
    edges = np.arange(seconds[0], seconds[1] + bin_s, bin_s)
    for column, (name, outcome) in enumerate(days.items()):
        _column(list(axes[:, column]), outcome, edges)
        axes[0, column].set_title(name)
        axes[-1, column].set_xlabel("time of the day")
    for row, label in enumerate(("texts/s asked for", "pods", "requests refused, %", "latency, ms")):
        axes[row, 0].set_ylabel(label)
    axes[1, 0].legend(fontsize=8, loc="lower right")
    axes[3, 0].legend(fontsize=8, loc="upper right")
    axes[2, 0].set_ylim(0, 100)
    axes[0, 0].set_ylim(bottom=0)
    axes[1, 0].set_ylim(bottom=0)
    axes[1, 0].yaxis.set_major_locator(MaxNLocator(integer=True))
    axes[3, 0].set_yscale("log")
    axes[3, 0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes[3, 0].xaxis.set_major_locator(MultipleLocator(4 if seconds[1] - seconds[0] > 40_000 else 0.25))
    axes[3, 0].xaxis.set_major_formatter(lambda hour, _: f"{int(hour)}:{round(hour * 60) % 60:02d}")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _column(axes: list[Axes], outcome: Outcome, edges: NDArray[np.float64]) -> None:
    load, pods, refused, latency = axes
    edges = edges[(edges >= outcome.at_s[0]) & (edges <= outcome.at_s[-1] + 1)]
    hours = edges[:-1] / 3600
    place = np.searchsorted(outcome.at_s, edges)
    sums = [np.add.reduceat(each, place[:-1]) for each in (outcome.refused, outcome.requests)]
    load.step(hours, outcome.texts_per_s[place[:-1]], where="post", color="tab:gray")
    pods.step(
        hours, outcome.replicas[place[:-1]], where="post", label="there", color="tab:orange", alpha=0.5, linewidth=3
    )
    pods.step(hours, outcome.ready[place[:-1]], where="post", label="ready", color="tab:blue")
    refused.fill_between(hours, 100 * sums[0] / np.maximum(1, sums[0] + sums[1]), step="post", color="tab:red")
    for quantile, color in ((99, "tab:red"), (95, "tab:orange"), (50, "tab:blue")):
        milliseconds = _percentiles(outcome, edges, quantile)
        latency.plot(hours, milliseconds, color=color, linewidth=1, label=f"p{quantile}")
    for each in axes:
        each.grid(alpha=0.3)


def _percentiles(outcome: Outcome, edges: NDArray[np.float64], quantile: float) -> list[float]:
    # Answers are in order of the second in which they came, but for those of pods that were removed.
    order = np.argsort(outcome.latency_at_s, kind="stable")
    at, latencies = outcome.latency_at_s[order], outcome.latencies_s[order]
    places = np.searchsorted(at, edges)
    return [
        1000 * float(np.percentile(latencies[start:end], quantile)) if end > start else np.nan
        for start, end in itertools.pairwise(places)
    ]
