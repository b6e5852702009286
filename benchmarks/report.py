"""Results as a Markdown page and as JSON."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.arithmetic import Encoder, flops
from benchmarks.figures import Cell, Figures, ratio
from benchmarks.goals import Goal
from benchmarks.runner import BARE, Effort, Results
from benchmarks.sides import GRPC, REFERENCE, REST
from benchmarks.triton_statistics import ENSEMBLES, STEPS
from export.manifest import Manifest

__all__ = ["About", "about", "as_json", "markdown"]

_PACKAGES = ("nvidia-pytriton", "onnxruntime-gpu", "tokenizers", "torch", "transformers", "numpy", "fastapi", "uvicorn")
# What the description of the reference service tells of it, on a machine that it does not name.
PUBLISHED_MS = {
    Cell("full", 1, 1, 12): 200,
    Cell("full", 8, 1, 12): 400,
    Cell("full", 16, 1, 128): 900,
}
PUBLISHED_GB = 1.1


@dataclass(frozen=True)
class About:
    """What figures need to be understood."""

    date: str
    processor: str
    processors: int
    stand_in: bool
    python: str
    versions: Mapping[str, str]
    model: str
    graph: str
    graph_reason: str
    digest: str
    rounds: int
    seconds: float
    texts: int
    remarks: Sequence[str]


def about(manifest: Manifest, effort: Effort, threads: int, remarks: Sequence[str]) -> About:
    """This machine, this model."""
    return About(
        date=time.strftime("%Y-%m-%d"),
        processor=_processor(),
        processors=threads,
        stand_in=not Path("/opt/tritonserver/bin/tritonserver").exists(),
        python=platform.python_version(),
        versions={name: _version(name) for name in _PACKAGES},
        model=manifest.model,
        graph=manifest.graph,
        graph_reason=manifest.graph_reason,
        digest=manifest.digest,
        rounds=effort.rounds,
        seconds=effort.seconds,
        texts=effort.texts,
        remarks=list(remarks),
    )


def as_json(
    about: About, results: Results, bert_base: Results | None, goals: Sequence[Goal], encoder: Encoder
) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "about": asdict(about),
        "goals": [{**asdict(goal), "reached": goal.reached} for goal in goals],
        "gflops": results.gflops,
        "cells": _cells_as_json(results, encoder),
        "bert_base": _cells_as_json(bert_base, None) if bert_base else [],
    }


def markdown(
    about: About,
    results: Results,
    bert_base: Results | None,
    goals: Sequence[Goal],
    encoder: Encoder,
    plots: Sequence[str],
) -> str:
    """The page. `plots` are files beside it."""
    parts = [
        "# Benchmark results",
        "Written by `scripts/bench`; what the figures mean is in [benchmarks.md](../benchmarks.md).",
        _heading(about, results, encoder),
        "## To reach",
        _goals_table(goals),
        "## Throughput",
        "Texts per second, medians of the rounds. A cell is workload, texts per request × concurrency.",
        _throughput_table(results, encoder),
        *(f"![{name}]({name})" for name in plots),
        "## Latency",
        "Milliseconds: p50 / p95 / p99 over all requests of all rounds; bare ONNX Runtime: per batch.",
        _latency_table(results),
        "## Batching",
        "Texts per execution of each step, by Triton's statistics.",
        _batch_table(results),
        "## Where a REST request's time goes",
        "Milliseconds per request by Triton's statistics (a request's share of a batch's time counts whole for each "
        "request in it); *outside* is REST's mean latency less Triton's: shim, gRPC, load generator.",
        _step_table(results),
        "## Processor time and memory",
        "Milliseconds of processor time per text, and resident memory after the cell.",
        _cost_table(results),
    ]
    if bert_base:
        parts += ["## The reference's own table, BERT-base", _bert_table(bert_base)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(about: About, results: Results, encoder: Encoder) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    lines = [
        f"- {about.date}, {about.processors} processors ({about.processor}), Python {about.python}, {versions}",
        f"- {about.model}, {about.graph} graph, {about.digest[:19]}",
        f"- {about.rounds} rounds, at least {about.seconds:g} s and {about.texts} texts each",
    ]
    if about.stand_in:
        lines.append("- `bert` ran on the **stand-in** for NVIDIA's C++ ONNX Runtime backend")
    if results.gflops:
        name, best = max(results.gflops.items(), key=lambda item: item[1])
        lines.append(f"- the processor's limit: {best:.0f} GFLOP/s in single precision ({name})")
    disturbed = max((each.disturbed for by_side in results.figures.values() for each in by_side.values()), default=0.0)
    if disturbed > 0.1:
        lines.append(f"- **disturbed**: other programs used up to {disturbed:.1f} processors meanwhile")
    return "\n".join([*lines, *(f"- {remark}" for remark in about.remarks)])


def _goals_table(goals: Sequence[Goal]) -> str:
    rows = [
        [
            goal.figure,
            *(_bar(goal, bar) for bar in (goal.must, goal.aim)),
            f"**{_number(goal.measured)}{goal.unit}**"
            if goal.measured is not None
            else f"not measured {_code(goal.remark)}",
            {"aim": "aim", "must": "must", "missed": "**missed**"}.get(goal.reached, ""),
        ]
        for goal in goals
    ]
    return _table(["figure", "must", "aim", "measured", "reached"], rows)


def _bar(goal: Goal, bar: float | None) -> str:
    return "" if bar is None else f"{'≤' if goal.less else '≥'} {bar:g}{goal.unit}"


def _throughput_table(results: Results, encoder: Encoder) -> str:
    sides = _sides(results)
    ratios = ["REST ÷ reference", "REST ÷ bare", "REST, tokens/s", "REST, share of the limit"]
    head = ["cell", "tokens per text", *sides, *ratios]
    rows = []
    for cell, figures in results.figures.items():
        tokens = results.tokens[cell]
        rows.append(
            [
                cell.name,
                f"{sum(tokens) / len(tokens):.0f}",
                *(_number(figures[side].texts_per_s) if side in figures else "" for side in sides),
                _ratio(figures, REST, REFERENCE),
                _ratio(figures, REST, BARE),
                _number(figures[REST].tokens_per_s) if REST in figures else "",
                _percent(share_of_limit(results, cell, REST, encoder)),
            ]
        )
    return _table(head, rows)


def _latency_table(results: Results) -> str:
    sides = _sides(results)
    rows = [
        [
            cell.name,
            *(
                f"{_number(each.p50_ms)} / {_number(each.p95_ms)} / {_number(each.p99_ms)}"
                if (each := figures.get(side))
                else ""
                for side in sides
            ),
        ]
        for cell, figures in results.figures.items()
    ]
    return _table(["cell", *sides], rows)


def _batch_table(results: Results) -> str:
    steps = ("tokenizer", "bert", "pooling")
    rows = [
        [cell.name, side, *(f"{figures[side].batch[step]:.1f}" for step in steps)]
        for cell, figures in results.figures.items()
        for side in (REST, GRPC)
        if side in figures and figures[side].batch
    ]
    return _table(["cell", "side", *steps], rows)


def _step_table(results: Results) -> str:
    rows = []
    for cell, figures in results.figures.items():
        each = figures.get(REST)
        if each is None or not each.step_ms:
            continue
        row = [cell.name, _number(_mean_latency(each, cell)), _number(_outside(each, cell))]
        for step in STEPS:
            # A step that the ensemble leaves out has no times.
            times = each.step_ms.get(step, {})
            row += [_number(times[part]) if times else "" for part in ("queue", "input", "infer", "output")]
        rows.append(row)
    parts = [f"{step} {part}" for step in STEPS for part in ("queue", "input", "infer", "output")]
    return _table(["cell", "REST", "outside", *parts], rows)


def _mean_latency(figures: Figures, cell: Cell) -> float:
    # Little's law: all clients always have a request under way.
    return 1000 * cell.concurrency * cell.texts / figures.texts_per_s


def _outside(figures: Figures, cell: Cell) -> float:
    # The supervisor's own questions go to `embedding`, so where both were asked the load's is the fused one.
    ensemble = max((name for name in ENSEMBLES if name in figures.step_ms), key=len)
    return _mean_latency(figures, cell) - figures.step_ms[ensemble]["total"]


def _cost_table(results: Results) -> str:
    rows = []
    for cell, figures in results.figures.items():
        for side, each in figures.items():
            if side == BARE or not each.cpu_ms_per_text:
                continue
            costs = [f"{name} {cost:.2f}" for name, cost in each.cpu_ms_per_text.items() if cost >= 0.005]
            memory = [f"{name} {size / 1e6:.0f}" for name, size in each.rss.items() if name in each.cpu_ms_per_text]
            rows.append([cell.name, side, ", ".join(costs), ", ".join(memory)])
    return _table(["cell", "side", "ms per text", "MB"], rows)


def _bert_table(results: Results) -> str:
    sides = _sides(results)
    head = [
        "texts × tokens",
        "published",
        *(f"{side}, p50 ms" for side in sides),
        "reference, GB",
        "bert, GB",
        "bert at most, GB",
    ]
    rows = []
    for cell, figures in results.figures.items():
        published = PUBLISHED_MS.get(cell)
        reference, ours = figures.get(REFERENCE), figures.get(REST)
        rows.append(
            [
                f"{cell.texts} × {cell.max_length}",
                f"{published} ms, {PUBLISHED_GB} GB" if published else "",
                *(_number(figures[side].p50_ms) if side in figures else "" for side in sides),
                f"{reference.rss['reference'] / 1e9:.2f}" if reference else "",
                f"{ours.rss['bert'] / 1e9:.2f}" if ours else "",
                f"{ours.peak_rss['bert'] / 1e9:.2f}" if ours else "",
            ]
        )
    note = (
        "One client. *Published* is what the reference service's description tells, on hardware that it does not name; "
        "the other columns are this machine's. The weights are random (speed does not depend on them)."
    )
    return f"{note}\n\n{_table(head, rows)}"


def share_of_limit(results: Results, cell: Cell, side: str, encoder: Encoder) -> float | None:
    """The part of the processor's limit that a side's real tokens make up."""
    figures = results.figures[cell].get(side)
    if figures is None or not results.gflops:
        return None
    tokens = results.tokens[cell]
    return figures.texts_per_s * flops(encoder, tokens) / len(tokens) / 1e9 / max(results.gflops.values())


def _cells_as_json(results: Results, encoder: Encoder | None) -> list[dict[str, Any]]:
    return [
        {
            **asdict(cell),
            "texts_digest": results.digests[cell],
            "mean_tokens": sum(results.tokens[cell]) / len(results.tokens[cell]),
            "measured": {
                side: {
                    **asdict(each),
                    **({"share_of_limit": share_of_limit(results, cell, side, encoder)} if encoder else {}),
                }
                for side, each in figures.items()
            },
        }
        for cell, figures in results.figures.items()
    ]


def _sides(results: Results) -> list[str]:
    return list(dict.fromkeys(side for figures in results.figures.values() for side in sorted(figures, key=_order)))


def _order(side: str) -> int:
    known = (REFERENCE, REST, GRPC, BARE)
    return known.index(side) if side in known else len(known)


def _ratio(figures: Mapping[str, Figures], ours: str, theirs: str) -> str:
    if ours not in figures or theirs not in figures:
        return ""
    return f"{ratio(figures[ours].rounds_texts_per_s, figures[theirs].rounds_texts_per_s):.2f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _code(text: str) -> str:
    return f"(`{text}`)" if text else ""


def _number(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
