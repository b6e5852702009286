"""`scripts/bench`: this service beside the reference service, bare ONNX Runtime and the processor's limit.

Exit codes: 0 measured, 1 something could not be measured, 2 a wrong option.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.arithmetic import Encoder
from benchmarks.errors import BenchmarkError
from benchmarks.figures import Cell
from benchmarks.goals import BERT_BASE_MEMORY, CROWD, LISTS, PACKED, PADDED, SINGLE, SIZES, goals
from benchmarks.repositories import CACHE, bert_base, exported
from benchmarks.runner import BARE, Effort, Graph, Results, check_sides, measure
from benchmarks.sides import Side, parse_other, started
from benchmarks.worker import Worker
from export.manifest import Manifest, read
from export.sources import DEFAULT_MODEL, find
from server.processors import available_processors
from server.settings import ROOT

INT8 = "bare int8 graph"
CELLS = (
    SINGLE,
    CROWD,
    Cell("mixed", 8, 4),
    LISTS,
    Cell("short", 1, 16),
    Cell("short", 32, 4),
    Cell("full", 1, 1),
    Cell("full", 32, 4),
    *SIZES,
)
QUICK_CELLS = (SINGLE, CROWD, LISTS)
ALL_CELLS = (
    *(Cell(*each) for each in itertools.product(("mixed", "short", "full"), (1, 8, 32), (1, 4, 16))),
    *(size for size in SIZES if size.texts not in (8, 32)),
)
BERT_BASE_CELLS = (Cell("full", 1, 1, 12), Cell("full", 8, 1, 12), BERT_BASE_MEMORY)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write, and give the exit code."""
    options = _options(arguments)
    # As Ctrl-C: what was started is stopped.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    began = time.monotonic()

    def progress(line: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - began:6.1f} s] {line}\n")
        sys.stdout.flush()

    effort = Effort(rounds=1, seconds=1.0, texts=64) if options.quick else Effort()
    effort = Effort(options.rounds or effort.rounds, options.seconds or effort.seconds, options.texts or effort.texts)
    cells = QUICK_CELLS if options.quick else CELLS
    try:
        _run(options, effort, ALL_CELLS if options.all_cells else cells, progress)
    except BenchmarkError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    return 0


def _run(options: argparse.Namespace, effort: Effort, cells: Sequence[Cell], progress: Callable[[str], None]) -> None:
    from benchmarks import plots, report  # matplotlib is slow to import

    remarks: list[str] = []
    progress(f"exporting {options.model} where needed (kept in {CACHE.relative_to(ROOT)})")
    repository, manifest = exported(options.model, options.graph)
    graphs = {BARE: repository, **_other_graphs(options, repository, manifest, remarks)}
    source = find(options.model).folder
    encoder = Encoder.read(source / "config.json")
    results = _measure(source, repository, graphs, cells, options.other, effort, progress, encoder)
    bert_results = _bert_base(options, progress) if options.bert_base else None

    found = goals(results, bert_results)
    if INT8 in results.figures.get(LISTS, {}):
        figures = results.figures[LISTS]
        remarks.append(f"int8 ÷ fp32, batches of 32: {figures[INT8].texts_per_s / figures[BARE].texts_per_s:.2f}")
    described = report.about(manifest, effort, available_processors(), remarks)
    out: Path = options.out or (CACHE / "quick" if options.quick else ROOT / "docs" / "benchmarks")
    out.mkdir(parents=True, exist_ok=True)
    pictures = plots.draw(results, out)
    page = report.markdown(described, results, bert_results, found, encoder, pictures)
    (out / "results.md").write_text(page)
    content = report.as_json(described, results, bert_results, found, encoder)
    (out / "results.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    sys.stdout.write(f"\n{page}\n")
    progress(f"written to {out}")


def _measure(
    source: Path,
    repository: Path,
    graphs: Mapping[str, Path],
    cells: Sequence[Cell],
    others: Sequence[Side],
    effort: Effort,
    progress: Callable[[str], None],
    encoder: Encoder | None = None,
) -> Results:
    """Start everything, measure, stop everything."""
    threads = str(available_processors())
    # Machines may carry switches that make the library choose slow kernels.
    clean = {name: value for name, value in os.environ.items() if name not in ("OPENBLAS_CORETYPE", "MKL_CBWR")}
    clean["OPENBLAS_NUM_THREADS"] = threads
    progress("starting the reference service, this service, and the measuring processes")
    with contextlib.ExitStack() as stack:
        sides = stack.enter_context(started(source, repository, others))
        load = stack.enter_context(Worker("benchmarks.load"))
        check_sides(sides, load, read(repository / "bert" / "1" / "manifest.json").pooling)
        bare = {
            name: Graph(
                stack.enter_context(
                    Worker("benchmarks.bare", str(path / "bert" / "1" / "model.onnx"), "--threads", threads)
                ),
                () if name == BARE else (LISTS,),
            )
            for name, path in graphs.items()
        }
        if encoder is None:
            return measure(
                cells, sides, bare, load, repository / "tokenizer" / "1" / "tokenizer.json", effort, progress
            )
        limit = stack.enter_context(Worker("benchmarks.limit", "--threads", threads, environment=clean))

        def rate() -> Mapping[str, float]:
            answer = limit.ask(seconds=0.5, hidden=encoder.hidden, intermediate=encoder.intermediate)
            gflops: dict[str, float] = answer["gflops"]
            return gflops

        tokenizer = repository / "tokenizer" / "1" / "tokenizer.json"
        return measure(cells, sides, bare, load, tokenizer, effort, progress, rate)


def _other_graphs(
    options: argparse.Namespace, repository: Path, manifest: Manifest, remarks: list[str]
) -> dict[str, Path]:
    """The same model as packed, padded and int8 graph, as far as there are such."""
    result = {}
    wanted = [(PADDED, "padded", "fp32"), (PACKED, "packed", "fp32")]
    wanted += [(INT8, options.graph, "int8")] if options.int8 else []
    for name, graph, precision in wanted:
        if (manifest.graph, manifest.precision) == (graph, precision):
            result[name] = repository
            continue
        try:
            result[name], _ = exported(options.model, graph, precision)
        except BenchmarkError as error:
            remarks.append(f"{name}: none, {error}")
    return result


def _bert_base(options: argparse.Namespace, progress: Callable[[str], None]) -> Results:
    """The reference's own table: one client, 12 and 128 tokens."""
    progress("BERT-base: making the model and exporting it, unless it is there")
    folder = bert_base()
    repository, _ = exported(str(folder), options.graph)
    effort = Effort(rounds=options.rounds or 3, seconds=options.seconds or 2.0, texts=32)
    return _measure(folder, repository, {BARE: repository}, BERT_BASE_CELLS, (), effort, progress)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="This service beside the reference service, bare ONNX Runtime and the limit of the processor.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one short round of three cells, written to .cache/bench")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="hub name or local folder")
    parser.add_argument("--graph", choices=("auto", "packed", "padded"), default="auto", help="as in python -m export")
    parser.add_argument(
        "--other",
        type=_other,
        action="append",
        default=[],
        metavar="NAME=URL:SHAPE[,model=MODEL]",
        help="another server as a further column; SHAPE is embedding, openai or tei",
    )
    parser.add_argument(
        "--all-cells", action="store_true", help="1, 8, 32 texts × concurrency 1, 4, 16 × all workloads"
    )
    parser.add_argument("--bert-base", action="store_true", help="the reference's own table, too: some minutes more")
    parser.add_argument("--int8", action="store_true", help="the int8 graph beside the fp32 one, bare")
    parser.add_argument("--rounds", type=int, help="rounds (default: 3, quick: 1)")
    parser.add_argument("--seconds", type=float, help="seconds per measurement, at least (default: 2, quick: 1)")
    parser.add_argument(
        "--texts", type=int, help="texts in the list that each side goes through (default: 256, quick: 64)"
    )
    parser.add_argument(
        "--out", type=Path, help="folder for results (default: docs/benchmarks, quick: .cache/bench/quick)"
    )
    return parser.parse_args(arguments)


def _other(text: str) -> Side:
    try:
        return parse_other(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
