"""Results as pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # no screen needed; before pyplot
import matplotlib.pyplot as plt

from benchmarks.figures import Figures
from benchmarks.runner import Results

__all__ = ["bars", "draw"]


def draw(results: Results, directory: Path) -> list[str]:
    """Write throughput.png and latency.png; gives their names."""
    bars(results, lambda each: each.texts_per_s, "texts per second", directory / "throughput.png")
    bars(
        results,
        lambda each: each.p50_ms,
        "latency p50, ms (bars) and p99 (lines)",
        directory / "latency.png",
        tails=True,
    )
    return ["throughput.png", "latency.png"]


def bars(results: Results, value: Callable[[Figures], float], label: str, path: Path, *, tails: bool = False) -> None:
    """One group of bars per cell that more than one side was measured in, one bar per side."""
    cells = [cell for cell, figures in results.figures.items() if len(figures) > 1]
    sides = list(dict.fromkeys(side for cell in cells for side in results.figures[cell]))
    figure, axes = plt.subplots(figsize=(max(6.0, 1.5 * len(cells) + 1), 4.2), layout="constrained")
    width = 0.8 / max(1, len(sides))
    for place, side in enumerate(sides):
        shown = [
            (index, results.figures[cell][side]) for index, cell in enumerate(cells) if side in results.figures[cell]
        ]
        where = [index + (place - (len(sides) - 1) / 2) * width for index, _ in shown]
        heights = [value(each) for _, each in shown]
        errors = [[0.0] * len(shown), [max(0.0, each.p99_ms - each.p50_ms) for _, each in shown]] if tails else None
        axes.bar(where, heights, width, label=side, yerr=errors, error_kw={"linewidth": 0.8})
    axes.set_xticks(range(len(cells)), [cell.name.replace(", ", "\n") for cell in cells], fontsize=8)
    # Cells lie far apart: one text of one client, 32 of four.
    axes.set_yscale("log")
    axes.set_ylabel(label)
    axes.legend(fontsize=8)
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)
