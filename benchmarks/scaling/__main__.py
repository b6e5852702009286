"""`scripts/scaling`: simulate and write docs/scaling.md; or tell what a load needs; or measure what the model needs.

Exit codes: 0 done, 1 it could not be done, 2 a wrong option.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.scaling import costs
from benchmarks.scaling.inputs import MEASURED, read_inputs
from benchmarks.scaling.traffic import Mix
from server.settings import ROOT

DOCS = ROOT / "docs" / "scaling"
PAGE = ROOT / "docs" / "scaling.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked, and give the exit code."""
    options = _options(arguments)
    began = time.monotonic()

    def progress(line: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - began:6.1f} s] {line}\n")
        sys.stdout.flush()

    try:
        options.run(options, progress)
    except BenchmarkError as error:
        sys.stderr.write(f"scaling: {error}\n")
        return 1
    return 0


def _simulate(options: argparse.Namespace, progress: Callable[[str], None]) -> None:
    from benchmarks.scaling import plots  # matplotlib is slow to import
    from benchmarks.scaling.study import study

    results, days = study(read_inputs(machines=options.machines), progress)
    DOCS.mkdir(exist_ok=True)
    (DOCS / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    plots.draw(days, DOCS)
    _write_page(options, progress)


def _write_page(options: argparse.Namespace, progress: Callable[[str], None]) -> None:
    from benchmarks.scaling.page import markdown

    PAGE.write_text(markdown(json.loads((DOCS / "results.json").read_text())))
    progress(f"wrote {PAGE.relative_to(ROOT)}")


def _plan(options: argparse.Namespace, progress: Callable[[str], None]) -> None:
    from benchmarks.scaling.plan import plan, pod_rates

    given = read_inputs(machines=options.machines)
    try:
        rates = pod_rates(given, Mix(options.lengths, options.sizes))
    except ValueError as error:
        raise BenchmarkError(str(error)) from error
    sys.stdout.write(plan(given, rates, options.texts_per_s))


def _measure(options: argparse.Namespace, progress: Callable[[str], None]) -> None:
    from benchmarks.scaling.measure import measure

    measured = measure(progress)
    DOCS.mkdir(exist_ok=True)
    MEASURED.write_text(json.dumps(measured, indent=1) + "\n")


def _lengths(text: str) -> dict[str, float]:
    return {name: float(share) for name, _, share in (part.partition("=") for part in text.split(","))}


def _sizes(text: str) -> dict[int, float]:
    return {int(size): share for size, share in _lengths(text).items()}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/scaling", description=__doc__)
    parser.set_defaults(run=_simulate, machines=costs.MACHINES)
    parser.add_argument("--machines", type=Path, metavar="FILE", help=f"prices; default {costs.MACHINES.name}")
    commands = parser.add_subparsers(title="instead of simulating everything")
    plan = commands.add_parser("plan", help="replicas and cost for a load")
    plan.add_argument("--texts-per-s", type=float, required=True)
    plan.add_argument(
        "--lengths", type=_lengths, default={"mixed": 1.0}, metavar="NAME=SHARE,…", help="short, mixed, full: of texts"
    )
    plan.add_argument(
        "--sizes", type=_sizes, default={1: 1.0}, metavar="TEXTS=SHARE,…", help="texts per request: of requests"
    )
    plan.set_defaults(run=_plan)
    commands.add_parser("page", help="write the page anew from docs/scaling/results.json").set_defaults(run=_write_page)
    commands.add_parser("measure", help="start the service and measure what the model needs; two minutes").set_defaults(
        run=_measure
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
