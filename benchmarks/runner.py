"""Measures all sides in all cells, alternating in rounds.

    for each round, for each cell: each side in turn, in an order that turns with the round; then bare ONNX Runtime

What changes with time on a shared machine (other load, clock rates) then hits all sides alike, and medians of the
rounds' ratios are stable where absolute figures are not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from numpy.typing import NDArray
from tokenizers import Tokenizer

from benchmarks import triton_statistics
from benchmarks.errors import WrongAnswer
from benchmarks.figures import Cell, Figures, Measurement, summarize
from benchmarks.processes import Usage, usage
from benchmarks.sides import GRPC, REFERENCE, REST, Side
from benchmarks.texts import digest, workload
from benchmarks.worker import Worker

__all__ = ["BARE", "Effort", "Graph", "Results", "check_sides", "measure"]

BARE = "bare ONNX Runtime"
_MAX_PIECE = 64  # as the shim cuts requests
_TOLERANCE = 0.05  # of a component: int8 passes, another text or another pooling does not


@dataclass(frozen=True)
class Effort:
    """How long is measured: `texts` is the length of the list that every side goes through, again and again."""

    rounds: int = 3
    seconds: float = 2.0
    texts: int = 256


@dataclass(frozen=True)
class Graph:
    """A bare graph: a `benchmarks.bare` process, and the cells in which it is measured; none means all."""

    worker: Worker
    cells: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Texts:
    """A cell's texts, what a server sees of them, and their token ids."""

    texts: list[str]
    cut: list[str]  # the texts up to the last character that counts, for servers that cannot be told where to cut
    ids: list[list[int]]

    @property
    def tokens(self) -> list[int]:
        """Tokens of each text, special ones included."""
        return [len(ids) for ids in self.ids]


@dataclass
class Results:
    """What was measured: figures by cell and side, bare graphs as sides of their own; what each cell's texts were."""

    figures: dict[Cell, dict[str, Figures]] = field(default_factory=dict)
    tokens: dict[Cell, list[int]] = field(default_factory=dict)
    digests: dict[Cell, str] = field(default_factory=dict)
    gflops: dict[str, float] = field(default_factory=dict)


def measure(
    cells: Sequence[Cell],
    sides: Sequence[Side],
    graphs: Mapping[str, Graph],
    load: Worker,
    tokenizer_file: Path,
    effort: Effort,
    progress: Callable[[str], None],
    rate: Callable[[], Mapping[str, float]] = dict,
) -> Results:
    """Measure everything. `graphs` are sides by name, too; `rate` is asked once a round for the processor's limit."""
    texts = {cell: _texts(cell, tokenizer_file, effort.texts) for cell in cells}
    taken: dict[Cell, dict[str, list[Measurement]]] = {cell: {} for cell in cells}
    rates: dict[str, list[float]] = {}
    for turn in range(effort.rounds):
        for cell in cells:
            turned = [*sides[turn % len(sides) :], *sides[: turn % len(sides)]]
            done = []
            for side in turned:
                if cell.wants(side.name):
                    measurement = _measure_side(cell, side, texts[cell], load, effort)
                    taken[cell].setdefault(side.name, []).append(measurement)
                    done.append(f"{side.name} {measurement.texts_per_s:.0f}")
            for name, graph in graphs.items():
                if cell.wants(name) and (not graph.cells or cell in graph.cells):
                    measurement = _measure_graph(cell, texts[cell], graph.worker, effort)
                    taken[cell].setdefault(name, []).append(measurement)
                    done.append(f"{name} {measurement.texts_per_s:.0f}")
            progress(f"round {turn + 1}/{effort.rounds}, {cell.name}: {', '.join(done)} texts/s")
        for name, gflops in rate().items():
            rates.setdefault(name, []).append(gflops)
    return Results(
        figures={cell: {name: summarize(each) for name, each in by_side.items()} for cell, by_side in taken.items()},
        tokens={cell: texts[cell].tokens for cell in cells},
        digests={cell: digest(texts[cell].texts) for cell in cells},
        gflops={name: median(each) for name, each in rates.items()},
    )


def check_sides(sides: Sequence[Side], load: Worker, pooling: str) -> None:
    """That all sides do the same work: each gives a vector for a text, and ours is the reference service's.

    A single text has no padding, so the means agree; models that pool otherwise are not compared.

    Raises:
        WrongAnswer: a side of ours differs from the reference service, or a side gives a wrong number of vectors.
    """
    text = workload("mixed", 1)
    found: dict[str, NDArray[np.float64]] = {}
    for side in sides:
        answer = load.ask(url=side.url, shape=side.shape, model=side.model, requests=[text], max_length=128, check=True)
        found[side.name] = np.asarray(answer["vectors"][0])
    if pooling != "mean":
        return
    for name in (REST, GRPC):
        if (error := float(np.abs(found[name] - found[REFERENCE]).max())) > _TOLERANCE:
            raise WrongAnswer(f"{name}: a single text's vector differs from the reference service's by {error:.2g}")


def _texts(cell: Cell, tokenizer_file: Path, count: int) -> Texts:
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(cell.max_length)
    # A whole number of requests for every client.
    group = cell.texts * cell.concurrency
    texts = workload(cell.workload, group * math.ceil(count / group))
    encodings = tokenizer.encode_batch(texts)
    cut = [text[: max(end for _, end in each.offsets)] for text, each in zip(texts, encodings, strict=True)]
    return Texts(texts, cut, [each.ids for each in encodings])


def _measure_side(cell: Cell, side: Side, texts: Texts, load: Worker, effort: Effort) -> Measurement:
    sent = texts.texts if side.takes_max_length else texts.cut
    requests = [sent[start : start + cell.texts] for start in range(0, len(sent), cell.texts)]
    before = _observe(side, load)
    answer = load.ask(
        url=side.url,
        shape=side.shape,
        model=side.model,
        requests=requests,
        max_length=cell.max_length,
        concurrency=cell.concurrency,
        seconds=effort.seconds,
    )
    after = _observe(side, load)
    circles, elapsed = answer["circles"], answer["elapsed_s"]
    cpu_s = {name: now.cpu_s - before.usage[name].cpu_s for name, now in after.usage.items() if name in before.usage}
    own = sum(cpu_s.values())
    return Measurement(
        texts_per_s=circles * len(sent) / elapsed,
        tokens_per_s=circles * sum(texts.tokens) / elapsed,
        latencies_ms=[1000 * latency for latency in answer["latencies_s"]],
        cpu_ms_per_text={name: 1000 * cpu / (answer["sent"] * cell.texts) for name, cpu in cpu_s.items()},
        rss={name: each.rss for name, each in after.usage.items()},
        peak_rss={name: each.peak_rss for name, each in after.usage.items()},
        steps=triton_statistics.difference(after.steps, before.steps),
        disturbed=max(0.0, after.busy_s - before.busy_s - own) / (after.at - before.at) if side.pid else 0.0,
    )


def _measure_graph(cell: Cell, texts: Texts, worker: Worker, effort: Effort) -> Measurement:
    # Single texts of several clients are what a server can batch; several texts come as a batch already.
    size = min(cell.texts if cell.texts > 1 else cell.concurrency, _MAX_PIECE)
    batches = [texts.ids[start : start + size] for start in range(0, len(texts.ids), size)]
    answer = worker.ask(batches=batches, seconds=effort.seconds)
    circles, elapsed = answer["circles"], answer["elapsed_s"]
    used = usage(worker.pid)
    return Measurement(
        texts_per_s=circles * len(texts.ids) / elapsed,
        tokens_per_s=circles * sum(texts.tokens) / elapsed,
        latencies_ms=[1000 * latency for latency in answer["latencies_s"]],
        rss={name: each.rss for name, each in used.items()},
        peak_rss={name: each.peak_rss for name, each in used.items()},
    )


@dataclass(frozen=True)
class _Observation:
    at: float
    busy_s: float  # of the whole machine's processors
    usage: dict[str, Usage]
    steps: dict[str, triton_statistics.Step]


def _observe(side: Side, load: Worker) -> _Observation:
    used = {f"{name} generator" if name == "load" else name: each for name, each in usage(load.pid).items()}
    if side.pid is not None:
        used |= usage(side.pid)
    times = psutil.cpu_times()
    busy = times.user + times.nice + times.system + getattr(times, "steal", 0.0)
    steps = triton_statistics.fetch(side.triton_url) if side.triton_url else {}
    return _Observation(time.monotonic(), busy, used, steps)
