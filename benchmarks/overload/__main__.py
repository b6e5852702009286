"""`scripts/overload`: load at fractions and multiples of the measured capacity, against the service as it is served.

Exit codes: 0 every target was reached, 1 one was not or could not be measured, 2 a wrong option.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.overload.arrivals import MIXES
from benchmarks.overload.report import markdown
from benchmarks.overload.runner import Effort, measure
from benchmarks.overload.targets import targets
from benchmarks.repositories import exported
from benchmarks.sides import service
from benchmarks.worker import Worker
from export.sources import DEFAULT_MODEL

_QUICK = Effort(rounds=1, capacity_s=3.0, level_s=8.0, storm_s=20.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write, and give the exit code."""
    options = _options(arguments)
    # As Ctrl-C: what was started is stopped.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    began = time.monotonic()

    def progress(line: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - began:6.1f} s] {line}\n")
        sys.stdout.flush()

    effort = _QUICK if options.quick else Effort()
    effort = replace(
        effort,
        mixes=options.mix or effort.mixes,
        rounds=options.rounds or effort.rounds,
        storm_s=options.storm_s or effort.storm_s,
    )
    try:
        progress(f"exporting {options.model} where needed")
        repository, _ = exported(options.model, "auto")
        with Worker("benchmarks.overload.generator") as generator, service(repository) as running:
            results = measure(running, generator, effort, progress)
    except BenchmarkError as error:
        sys.stderr.write(f"overload: {error}\n")
        return 1
    page = markdown(results, " ".join(["scripts/overload", *(sys.argv[1:] if arguments is None else arguments)]))
    sys.stdout.write(f"\n{page}\n")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "results.md").write_text(page)
        progress(f"written to {options.out}")
    missed = [each for each in targets(results) if not each.met]
    for each in missed:
        sys.stderr.write(f"overload: missed: {each.figure}: wanted {each.wanted}, got {each.measured:.3g}{each.unit}\n")
    return 1 if missed else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/overload",
        description="Open-loop load at 0.5 to 10 times the measured capacity; fails if a target is missed.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one short round, a storm of 20 s: about four minutes")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="hub name or local folder")
    parser.add_argument("--mix", action="append", choices=tuple(MIXES), help="what is asked (default: all)")
    parser.add_argument("--rounds", type=int, help="rounds (default: 3, quick: 1)")
    parser.add_argument("--storm-s", type=float, help="seconds of the long storm (default: 300, quick: 20)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="write results.md there",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
