"""The page with the figures."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version

from benchmarks.overload.figures import Level, Times
from benchmarks.overload.placement import Placement
from benchmarks.overload.runner import Results
from benchmarks.overload.targets import Target, targets
from server.processors import available_processors

__all__ = ["markdown"]

_PACKAGES = ("nvidia-pytriton", "onnxruntime-gpu", "fastapi", "uvicorn")


def markdown(results: Results, placed: Placement, command: str) -> str:
    """The whole page."""
    storm, giants = results.storm, results.giants
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    lines = [
        "# Overload: results",
        "",
        f"Written by `{command}`; what the figures mean is in docs/overload.md.",
        "",
        f"- {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {versions}",
        f"- {_placed(placed)}",
        f"- processors that others used meanwhile: {_disturbed(results)}",
        "",
        "## Targets",
        "",
        *_table(("figure", "wanted", "measured", "met"), [_target(each) for each in targets(results)]),
    ]
    for mix, rounds in results.rounds.items():
        capacities = [f"{each.capacity[0]:.0f} → {each.capacity[1]:.0f}" for each in rounds]
        lines += ["", f"## {mix}", "", f"Capacity, texts/s, before → after each round: {', '.join(capacities)}.", ""]
        rows = [
            (str(number + 1), *_level(level)) for number, each in enumerate(rounds) for level in each.levels.values()
        ]
        lines += _table(("round", *_COLUMNS), rows)
        share = rounds[-1].levels[10.0].share
        accepted = ", ".join(f"{size} text{'s' if size > 1 else ''} {100 * part:.0f} %" for size, part in share.items())
        lines += ["", f"Accepted at 10 times the capacity, by size: {accepted}."]
    lines += [
        "",
        f"## A storm of {storm.storm.seconds:.0f} s",
        "",
        f"{storm.mix}; capacity {storm.capacity[0]:.0f} texts/s before and {storm.capacity[1]:.0f} after it. "
        f"The slowest probe: liveness {storm.slowest_probe_ms['/health/live']:.0f} ms, "
        f"readiness, which embeds, {storm.slowest_probe_ms['/health/ready']:.0f} ms."
        + (
            "" if storm.steady else " The machine changed its speed meanwhile: what is compared here is not comparable."
        ),
        "",
        *_table(("", *_COLUMNS), [(name, *_level(level)) for name, level in _storm_levels(results)]),
        "",
        f"Each process in the storm. The load generator used {storm.storm.generator:.2f} processors, other programs "
        f"{storm.disturbed:.2f}.",
        "",
        *_table(
            ("process", "processors", "resident MB before", "at its most"),
            [
                (
                    name,
                    f"{storm.processors[name]:.2f}" if name in storm.processors else "",
                    _mb(storm.memory_before.get(name, 0)),
                    _mb(most),
                )
                for name, most in storm.memory.items()
            ],
        ),
        "",
        "## Single texts beside giant requests",
        "",
        f"{giants.requests} requests of {giants.texts} texts; single texts at {giants.alone.times:g} times the "
        f"capacity, {giants.capacity:.0f} texts/s. Beside the giants Triton embedded {giants.embedded_per_s:.0f} "
        "texts/s in all.",
        "",
        *_table(
            ("single texts", "answered", "p50 ms", "p95 ms", "p99 ms", "most ms"),
            [
                (name, str(level.accepted), *_times(level.accepted_ms), _number(level.accepted_ms.most))
                for name, level in (("alone", giants.alone), ("beside giants", giants.beside))
            ],
        ),
    ]
    return "\n".join(lines) + "\n"


_COLUMNS = (
    "load",
    "requests/s",
    "accepted",
    "refused",
    "failed",
    "goodput texts/s",
    "accepted p50 ms",
    "p95 ms",
    "p99 ms",
    "refused p50 ms",
    "p99 ms",
    "Retry-After s",
    "generator processors",
)


def _level(level: Level) -> tuple[str, ...]:
    return (
        f"{level.times:g} ×",
        f"{level.per_s:.0f}",
        str(level.accepted),
        str(level.refused),
        str(sum(level.failed.values())),
        f"{level.goodput:.0f}",
        *_times(level.accepted_ms),
        _number(level.refused_ms.p50),
        _number(level.refused_ms.p99),
        _number(level.retry_after_s),
        f"{level.generator:.2f}",
    )


def _storm_levels(results: Results) -> Sequence[tuple[str, Level]]:
    storm = results.storm
    return (("before", storm.before), ("before", storm.calm), ("storm", storm.storm), ("right after", storm.after))


def _target(target: Target) -> tuple[str, ...]:
    value = "none" if math.isnan(target.measured) else f"{target.measured:.3g}{target.unit}"
    return (target.figure, target.wanted, f"**{value}**", "yes" if target.met else "**no**")


def _placed(placed: Placement) -> str:
    usable = f"{available_processors()} usable in all"
    if placed.shared:
        return f"processors: {len(placed.service)}, shared by service and load generator; {usable}"
    return (
        f"processors: {len(placed.service)} for the service, {len(placed.generator)} for the load generator; {usable}"
    )


def _disturbed(results: Results) -> str:
    rounds = [each.disturbed for rounds in results.rounds.values() for each in rounds]
    return f"{', '.join(f'{each:.2f}' for each in rounds)} in the rounds, {results.storm.disturbed:.2f} in the storm"


def _times(times: Times) -> tuple[str, str, str]:
    return _number(times.p50), _number(times.p95), _number(times.p99)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _mb(count: int) -> str:
    return f"{count / 1e6:.0f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
