"""A picture of the dashboard with real data, for the documentation. Not Grafana's: its panels, drawn by matplotlib.

    scripts/test sets the environment up;  python -m tests.monitoring.picture docs/monitoring/dashboard.png

The service under load and Prometheus run for a minute and a half. What a panel's query returns is drawn where the panel
lies, with its legends and units, so that a person can see whether it says something.
"""

from __future__ import annotations

import json
import math
import pydoc_data.topics
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from monitoring.dashboard.__main__ import FILE
from tests.support.service import exported_repository
from tests.support.watched import Watched, watch

# One cell of Grafana's grid of 24 columns, in inches.
_CELL = (0.62, 0.34)
_LINES_IN_LEGEND = 8
Line = tuple[str, list[float], list[float]]


def draw(dashboard: dict[str, Any], watched: Watched, to: Path) -> None:
    """Draw all panels."""
    panels = dashboard["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = plt.figure(figsize=(24 * _CELL[0], height * _CELL[1]), facecolor="#f4f5f5")
    for panel in panels:
        at = panel["gridPos"]
        left, bottom = at["x"] / 24, 1 - (at["y"] + at["h"]) / height
        if panel["type"] == "row":
            figure.text(0.008, bottom + 0.3 / height, panel["title"], fontsize=12, weight="bold", va="bottom")
            continue
        lines = lines_of(panel, watched)
        # Room for the title, the axis and the legend.
        aside = panel["options"].get("legend", {}).get("placement") == "right"
        legend = min(len(lines), _LINES_IN_LEGEND) if panel["type"] == "timeseries" and not aside else 0
        inner = ((at["w"] - (6.2 if aside else 2.2)) / 24, (at["h"] - 1.9 - 0.42 * legend) / height)
        axes = figure.add_axes((left + 1.6 / 24, bottom + (0.75 + 0.42 * legend) / height, *inner))
        axes.set_title(panel["title"], fontsize=8, loc="left", weight="bold")
        _DRAWERS[panel["type"]](axes, lines, panel)
    figure.savefig(to, dpi=75)


def lines_of(panel: dict[str, Any], watched: Watched) -> list[Line]:
    """Legend, times and values of each line."""
    result: list[Line] = []
    for target in panel["targets"]:
        for labels, points in watched.lines(target["expr"]):
            known = {**labels}
            legend = re.sub(r"{{(\w+)}}", lambda found, known=known: known.get(found[1], ""), target["legendFormat"])
            result.append((legend, [time - watched.began for time, _ in points], [value for _, value in points]))
    return sorted(result, key=lambda line: -max(line[2]))


def graph(axes: Axes, lines: list[Line], panel: dict[str, Any]) -> None:
    """Lines over time, or stacked areas."""
    if not lines:
        nothing(axes)
        return
    custom = panel["fieldConfig"]["defaults"].get("custom", {})
    if custom.get("stacking", {}).get("mode") == "normal":
        times = sorted({time for _, line_times, _ in lines for time in line_times})
        tables = [dict(zip(line_times, values, strict=True)) for _, line_times, values in lines]
        axes.stackplot(
            times, [[table.get(time, 0.0) for time in times] for table in tables], labels=[n for n, *_ in lines]
        )
    else:
        for legend, times, values in lines:
            axes.plot(times, values, linewidth=1, label=legend)
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words(value, unit)))
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=6)
    axes.grid(alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    last = [f"{label}   {words(line[2][-1], unit)}" for label, line in zip(labels, lines, strict=True)]
    shown = slice(None, _LINES_IN_LEGEND)
    corner = (1.01, 1.0) if panel["options"]["legend"]["placement"] == "right" else (-0.02, -0.12)
    axes.legend(
        handles[shown], last[shown], fontsize=6, loc="upper left", bbox_to_anchor=corner, frameon=False,
        borderaxespad=0, labelspacing=0.25,
    )  # fmt: skip


def number(axes: Axes, lines: list[Line], panel: dict[str, Any]) -> None:
    """The last value, or the legend where that is what the panel shows."""
    axes.axis("off")
    if not lines:
        nothing(axes)
        return
    by_name = panel["options"].get("textMode") == "name"
    unit = panel["fieldConfig"]["defaults"]["unit"]
    text = "\n".join(legend[:110] for legend, _, _ in lines) if by_name else words(lines[0][2][-1], unit)
    axes.text(0.5, 0.4, text, ha="center", va="center", fontsize=8 if by_name else 18, transform=axes.transAxes)


def bars(axes: Axes, lines: list[Line], panel: dict[str, Any]) -> None:
    """The last values as bars."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    lines = sorted(lines, key=lambda line: line[2][-1])
    axes.barh([legend for legend, _, _ in lines], [values[-1] for _, _, values in lines])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words(value, unit)))
    axes.tick_params(labelsize=6)
    axes.tick_params(axis="y", direction="in", pad=-5)
    for label in axes.get_yticklabels():
        label.set_horizontalalignment("left")


def nothing(axes: Axes) -> None:
    """What a panel shows that has no data."""
    axes.axis("off")
    axes.text(0.5, 0.5, "no data", ha="center", va="center", color="gray", transform=axes.transAxes)


_DRAWERS = {"timeseries": graph, "stat": number, "bargauge": bars}


def words(value: float, unit: str) -> str:
    """A value with its unit, in the manner of Grafana."""
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"
    if unit == "bytes":
        step = min(int(math.log(value, 1024)), 4) if value >= 1 else 0
        return f"{value / 1024**step:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[step]}"
    if unit in {"short", "none"} and value >= 10_000:
        return f"{value / 1000:.3g} K"
    return f"{value:.4g}{ {'reqps': ' req/s', 'ops': ' ops/s'}.get(unit, '') }"


def main() -> None:
    """Run it all, and write the picture."""
    topics = pydoc_data.topics.topics
    paragraphs = [" ".join(part.split()) for name in sorted(topics) for part in topics[name].split("\n\n")]
    repository = exported_repository("sentence-transformers/all-MiniLM-L6-v2", "default")
    with (
        tempfile.TemporaryDirectory() as directory,
        watch(repository, [text for text in paragraphs if text], Path(directory), load_s=60.0) as watched,
    ):
        draw(json.loads(FILE.read_text()), watched, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
