"""`scripts/bench threads`: what another number of threads than processors costs.

This service is started once for each number (`--threads`, which sets ONNX Runtime's and the tokenizer's), and measured
over REST in rounds, as `scripts/bench` does. Nothing is written but the table.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Sequence

from benchmarks.errors import BenchmarkError
from benchmarks.goals import CROWD, LISTS, SINGLE
from benchmarks.repositories import exported
from benchmarks.runner import Effort, Results, measure
from benchmarks.sides import service
from benchmarks.worker import Worker
from export.sources import DEFAULT_MODEL
from server.processors import available_processors

__all__ = ["main", "table"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and give the exit code."""
    processors = available_processors()
    parser = argparse.ArgumentParser(
        prog="scripts/bench threads", description=f"Other numbers of threads than processors (here {processors})."
    )
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=[processors, max(1, processors // 2), 2 * processors, 4 * processors],
        help="numbers to measure; the first is what the others are compared with (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=2.0, help="per measurement, at least (default: %(default)s)")
    parser.add_argument(
        "--texts", type=int, default=128, help="in the list that is gone through (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    began = time.monotonic()

    def progress(line: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - began:6.1f} s] {line}\n")
        sys.stdout.flush()

    try:
        results = _measure(options, progress)
    except BenchmarkError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    sys.stdout.write(f"\n{processors} processors\n\n{table(results)}\n")
    return 0


def _measure(options: argparse.Namespace, progress: Callable[[str], None]) -> Results:
    repository, _ = exported(DEFAULT_MODEL, "auto")
    effort = Effort(options.rounds, options.seconds, options.texts)
    with contextlib.ExitStack() as stack:
        sides = []
        for threads in dict.fromkeys(options.threads):
            ours = stack.enter_context(service(repository, "--threads", str(threads)))
            sides.append(ours.rest(f"{threads} threads"))
        load = stack.enter_context(Worker("benchmarks.load"))
        tokenizer = repository / "tokenizer" / "1" / "tokenizer.json"
        return measure((SINGLE, CROWD, LISTS), sides, {}, load, tokenizer, effort, progress)


def table(results: Results) -> str:
    """Markdown: throughput and median latency of each number of threads, beside the first one's."""
    lines = ["| cell | threads | texts/s | ÷ the first | p50 ms | p99 ms | bert, ms of processor per text |"]
    lines.append("|" + " --- |" * 7)
    for cell, by_side in results.figures.items():
        first = next(iter(by_side.values()))
        for name, figures in by_side.items():
            share = figures.texts_per_s / first.texts_per_s
            cost = figures.cpu_ms_per_text.get("bert", float("nan"))
            lines.append(
                f"| {cell.name} | {name.split()[0]} | {figures.texts_per_s:.1f} | {share:.2f} | {figures.p50_ms:.1f} | "
                f"{figures.p99_ms:.1f} | {cost:.1f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
