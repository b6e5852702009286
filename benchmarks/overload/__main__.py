"""`scripts/overload`: load at fractions and multiples of the measured capacity, against the service as it is served.

Exit codes: 0 every target was reached, 1 one was not or could not be measured, 2 a wrong option.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.overload.arrivals import MIXES
from benchmarks.overload.placement import on, placement
from benchmarks.overload.report import markdown
from benchmarks.overload.runner import Effort, measure
from benchmarks.overload.targets import targets
from benchmarks.repositories import exported
from benchmarks.sides import service
from benchmarks.worker import Worker
from export.sources import DEFAULT_MODEL

_QUICK = Effort(rounds=1, capacity_s=3.0, level_s=12.0, storm_s=20.0)


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
    placed = placement(os.sched_getaffinity(0), options.share_processors)
    try:
        progress(f"exporting {options.model} where needed")
        repository, _ = exported(options.model, "auto")
        with contextlib.ExitStack() as stack:
            # The one that keeps the books and asks the probes is a client, too.
            stack.enter_context(on(placed.generator))
            generator = stack.enter_context(Worker("benchmarks.overload.generator"))
            with on(placed.service):
                running = stack.enter_context(service(repository))
            results = measure(running, generator, effort, progress)
    except BenchmarkError as error:
        sys.stderr.write(f"overload: {error}\n")
        return 1
    command = " ".join(["scripts/overload", *(sys.argv[1:] if arguments is None else arguments)])
    page = markdown(results, placed, command)
    sys.stdout.write(f"\n{page}\n")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / ("shared.md" if placed.shared else "results.md")).write_text(page)
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
    parser.add_argument("--quick", action="store_true", help="one short round, a storm of 20 s: about five minutes")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="hub name or local folder")
    parser.add_argument("--mix", action="append", choices=tuple(MIXES), help="what is asked (default: all)")
    parser.add_argument("--rounds", type=int, help="rounds (default: 3, quick: 1)")
    parser.add_argument("--storm-s", type=float, help="seconds of the long storm (default: 300, quick: 20)")
    parser.add_argument(
        "--share-processors", action="store_true", help="generator and service on all of them, as without a second one"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="write results.md there; shared.md where processors are shared",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
