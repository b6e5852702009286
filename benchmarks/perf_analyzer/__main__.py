"""`scripts/perf-analyzer`: NVIDIA's own measuring tool against our Triton.

Exit codes: 0 measured, 1 something could not be measured, 2 a wrong option.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.perf_analyzer import inputs, sweep
from benchmarks.perf_analyzer.tool import install
from benchmarks.repositories import exported
from benchmarks.sides import service
from benchmarks.texts import workload
from export.sources import DEFAULT_MODEL
from server.settings import ROOT


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write, and give the exit code."""
    options = _options(arguments)
    began = time.monotonic()

    def progress(line: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - began:6.1f} s] {line}\n")
        sys.stdout.flush()

    plan = sweep.Sweep(options.models)
    if options.quick:
        plan = sweep.Sweep(options.models, batches=(1,), concurrencies=(1, 4), window_s=0.7)
    try:
        progress("installing perf_analyzer where needed")
        tool = install()
        progress(f"exporting {options.model} where needed")
        repository, _ = exported(options.model, options.graph)
        progress("starting Triton")
        with tempfile.TemporaryDirectory() as directory, service(repository, "--no-rest") as running:
            files = inputs.write(Path(directory), workload("mixed", 64), repository)
            addresses = {"http": running.http_address, "grpc": running.grpc_address}
            rows = sweep.run(tool, plan, addresses, files, progress)
    except BenchmarkError as error:
        sys.stderr.write(f"perf-analyzer: {error}\n")
        return 1
    out: Path = options.out or ROOT / (".cache/bench/quick" if options.quick else "docs/benchmarks")
    out.mkdir(parents=True, exist_ok=True)
    sweep.write_csv(rows, out / "perf_analyzer.csv")
    sweep.plot(rows, out / "perf_analyzer.png")
    progress(f"written to {out}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/perf-analyzer",
        description="Sweeps of NVIDIA's perf_analyzer over HTTP and gRPC: batch 1 and 8, concurrency 1 to 16.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="batch 1, concurrency 1 and 4, written to .cache/bench/quick"
    )
    parser.add_argument(
        "--models", nargs="+", choices=inputs.MODELS, default=inputs.MODELS, help="the ensemble and its steps"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="hub name or local folder of the encoder")
    parser.add_argument("--graph", choices=("auto", "packed", "padded"), default="auto", help="as in python -m export")
    parser.add_argument("--out", type=Path, help="folder for CSV and plot (default: docs/benchmarks)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
