"""One sweep: models × protocols × batch sizes × concurrencies, and its table and plot."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import WindowTooShort
from benchmarks.perf_analyzer.tool import PerfAnalyzer

__all__ = ["Row", "Sweep", "plot", "run", "write_csv"]

# In this order; perf_analyzer's names. Times are microseconds. With an ensemble, "Network+Server Send/Recv" holds the
# time in its steps' queues, too.
_COLUMNS = (
    "Inferences/Second",
    "Client Send",
    "Network+Server Send/Recv",
    "Server Queue",
    "Server Compute Input",
    "Server Compute Infer",
    "Server Compute Output",
    "Client Recv",
    "p50 latency",
    "p90 latency",
    "p95 latency",
    "p99 latency",
)
_LONGEST_WINDOW_S = 30.0


@dataclass(frozen=True)
class Sweep:
    """What is gone through. A measurement is three windows of so many seconds; longer ones where it has to be."""

    models: Sequence[str]
    protocols: Sequence[str] = ("http", "grpc")
    batches: Sequence[int] = (1, 8)
    concurrencies: Sequence[int] = (1, 2, 4, 8, 16)
    window_s: float = 1.5


@dataclass(frozen=True)
class Row:
    """One measurement; `values` by perf_analyzer's names of its columns."""

    model: str
    protocol: str
    batch: int
    concurrency: int
    values: Mapping[str, float]


def run(
    tool: PerfAnalyzer,
    sweep: Sweep,
    addresses: Mapping[str, str],
    inputs: Mapping[str, Path],
    progress: Callable[[str], None],
) -> list[Row]:
    """Measure all.

    Args:
        addresses: HOST:PORT of Triton by protocol.
        inputs: the file of real inputs by model.

    Raises:
        BenchmarkError: see PerfAnalyzer.run.
    """
    rows = []
    for model in sweep.models:
        for protocol in sweep.protocols:
            for batch in sweep.batches:
                for concurrency in sweep.concurrencies:
                    values = _measure(
                        tool, sweep, model, protocol, addresses[protocol], inputs[model], batch, concurrency
                    )
                    rows.append(Row(model, protocol, batch, concurrency, values))
                    progress(
                        f"{model}, {protocol}, batch {batch}, concurrency {concurrency}: "
                        f"{values['Inferences/Second']:.0f} texts/s, p50 {values['p50 latency'] / 1000:.1f} ms"
                    )
    return rows


def _measure(
    tool: PerfAnalyzer, sweep: Sweep, model: str, protocol: str, address: str, data: Path, batch: int, concurrency: int
) -> dict[str, float]:
    window_s = sweep.window_s
    while True:
        try:
            [row] = tool.run(
                *("-m", model, "-i", protocol, "-u", address, "-b", str(batch), "--input-data", str(data)),
                *("--concurrency-range", f"{concurrency}:{concurrency}"),
                # Three windows, and whatever they say counts: the default waits for three that agree, fails where they
                # never do, and then writes no figures. Windows of a number of requests say too little of fast steps:
                # it looks only every 100 ms whether they are over.
                *("--measurement-mode", "time_windows", "--measurement-interval", str(round(1000 * window_s))),
                *("-s", "1000000", "-r", "3"),
            )
        except WindowTooShort:
            if window_s >= _LONGEST_WINDOW_S:
                raise
            window_s *= 2
        else:
            return {column: float(row[column]) for column in _COLUMNS}


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """One line per measurement."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Model", "Protocol", "Batch", "Concurrency", *_COLUMNS])
        for row in rows:
            values = [f"{row.values[column]:g}" for column in _COLUMNS]
            writer.writerow([row.model, row.protocol, row.batch, row.concurrency, *values])


def plot(rows: Sequence[Row], path: Path) -> None:
    """Throughput and median latency over concurrency, a column per model."""
    import matplotlib as mpl

    mpl.use("Agg")  # no screen needed; before pyplot
    import matplotlib.pyplot as plt

    models = list(dict.fromkeys(row.model for row in rows))
    figure, axes = plt.subplots(
        2, len(models), figsize=(3.2 * len(models) + 1, 6), layout="constrained", sharex=True, squeeze=False
    )
    for column, model in enumerate(models):
        for protocol, batch in dict.fromkeys((row.protocol, row.batch) for row in rows):
            line = [row for row in rows if (row.model, row.protocol, row.batch) == (model, protocol, batch)]
            where = [row.concurrency for row in line]
            label = f"{protocol}, batch {batch}"
            axes[0, column].plot(where, [row.values["Inferences/Second"] for row in line], marker="o", label=label)
            axes[1, column].plot(where, [row.values["p50 latency"] / 1000 for row in line], marker="o", label=label)
        axes[0, column].set_title(model)
        axes[1, column].set_xlabel("concurrency")
        for each in axes[:, column]:
            each.grid(alpha=0.3)
            each.set_ylim(bottom=0)
    axes[0, 0].set_ylabel("texts per second")
    axes[1, 0].set_ylabel("latency p50, ms")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
