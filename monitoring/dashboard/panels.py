"""The kinds of panels, and the parts that their queries share."""

from __future__ import annotations

from typing import TypeAlias

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model

__all__ = [
    "EMBEDS",
    "ENSEMBLES",
    "NAMESPACE",
    "RATE",
    "SOURCE",
    "STEPS",
    "Panel",
    "Query",
    "bars",
    "graph",
    "names",
    "number",
    "quantile",
    "rate",
]

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
# Requests that embed: what probes and Prometheus itself ask is left out.
EMBEDS = 'namespace=~"$namespace",route!~"/health.*|/metrics"'
NAMESPACE = 'namespace=~"$namespace"'
# An ensemble's counters contain those of its steps: sums are over the one or the other.
STEPS = f'{NAMESPACE},model!~"embedding.*"'
ENSEMBLES = f'{NAMESPACE},model=~"embedding.*"'
RATE = "[$__rate_interval]"

# An expression and the legend of its lines.
Query: TypeAlias = tuple[str, str]
Panel: TypeAlias = timeseries.Panel | stat.Panel | bargauge.Panel


def graph(title: str, unit: str, description: str, *queries: Query, width: int = 8, stacked: bool = False) -> Panel:
    """Lines over time, with their last and greatest values."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .span(width)
        .height(8)
        .line_width(1)
        .fill_opacity(40 if stacked else 10)
        .show_points(options.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(options.LegendDisplayMode.TABLE)
            # Below, a long legend would take the lines' room.
            .placement(options.LegendPlacement.RIGHT if width > 12 else options.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING))
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL).group("A"))
    for letter, (expression, legend) in zip("ABCDEFGH", queries, strict=False):
        panel = panel.with_target(_target(letter, expression, legend))
    return panel


def number(
    title: str, unit: str, description: str, query: Query, good: float | None = None, bad: float | None = None
) -> Panel:
    """One figure; green, and red from `bad` on, or below `good`."""
    steps = [model.Threshold(value=None, color="green")]
    if bad is not None:
        steps.append(model.Threshold(value=bad, color="red"))
    if good is not None:
        steps = [model.Threshold(value=None, color="red"), model.Threshold(value=good, color="green")]
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(4)
        .height(4)
        .thresholds(dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target("A", *query))
    )


def bars(title: str, unit: str, description: str, *queries: Query) -> Panel:
    """The last value of each line as a bar."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .span(8)
        .height(8)
        .orientation(options.VizOrientation.HORIZONTAL)
        .display_mode(options.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    for letter, (expression, legend) in zip("ABCDEFGH", queries, strict=False):
        panel = panel.with_target(_target(letter, expression, legend))
    return panel


def names(title: str, description: str, query: Query) -> Panel:
    """Words, out of a metric's labels."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit("none")
        .span(24)
        .height(3)
        .text_mode(options.BigValueTextMode.NAME)
        .color_mode(options.BigValueColorMode.NONE)
        .graph_mode(options.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target("A", *query))
    )


def _target(letter: str, expression: str, legend: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id(letter).datasource(SOURCE).expr(expression).legend_format(legend).range()


def quantile(q: float, histogram: str, selector: str, by: str = "le") -> str:
    """A quantile of a histogram, by `le` and maybe more."""
    return f"histogram_quantile({q}, sum by ({by}) (rate({histogram}_bucket{{{selector}}}{RATE})))"


def rate(metric: str, selector: str) -> str:
    """A counter's growth per second, over an interval that Grafana chooses."""
    return f"rate({metric}{{{selector}}}{RATE})"
