"""One export from beginning to end: load, ask transformers, write, verify, move in."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from export import (
    artifacts,
    encoder,
    graph_race,
    graphs,
    manifest,
    onnx_file,
    pooled,
    precision,
    precision_gate,
    runtimes,
    verify,
)
from export.graphs import Exporter
from export.manifest import Manifest
from export.verify import OnCheck

__all__ = ["Job", "run"]

Progress = Callable[[str], None]
TOOLS = ("torch", "transformers", "tokenizers", "onnx", "onnxscript", "numpy")


@dataclass(frozen=True)
class Job:
    """What to export, and where to.

    race_on: ONNX Runtime's execution providers on which `graph` "auto" times the graphs; none: it does not.
    """

    model: str
    repository: Path
    revision: str | None = None
    precision: str = "fp32"
    graph: str = "auto"
    race_on: tuple[str, ...] = ()
    oldest_runtime: Path | None = None  # folder of ONNX Runtime 1.19.2; None: not verified, as the manifest then says


def run(job: Job, progress: Progress, on_check: OnCheck) -> Manifest:
    """Exports; raises an ExportError and leaves the repository as it was if anything fails."""
    graphs.require_precision(job.precision)
    tried = [runtimes.newest()]
    if job.oldest_runtime is not None:
        tried.append(runtimes.oldest(job.oldest_runtime))
    progress(f"loading {job.model}")
    source = encoder.load(job.model, job.revision)
    facts = source.facts
    choice = graphs.choose(source, job.graph, _race(source, job, progress) if job.race_on else None)
    progress(
        f"loaded {facts.architecture}: {facts.hidden_size} dimensions, {facts.max_sequence_length} of "
        f"{facts.max_positions} tokens, {facts.pooling} pooling"
    )
    progress("asking transformers for the vectors to compare with")
    expected = verify.expect(source)
    with artifacts.staging(job.repository) as staged:
        progress("writing tokenizer.json")
        source.tokenizer.save(str(staged / artifacts.TOKENIZER), pretty=False)
        verify.tokens(source, staged / artifacts.TOKENIZER, on_check)
        progress(f"writing model.onnx ({choice.graph}: {choice.reason})")
        model = staged / artifacts.MODEL
        choice.exporter.to_onnx(source, model)
        if job.precision in precision.NOTES:
            progress(f"converting model.onnx to {job.precision} ({precision.NOTES[job.precision]})")
        exact = precision_gate.vectors(source, model, tried[0]) if job.precision == "int8" else None
        precision.convert(model, job.precision)
        pooled.append(model, facts.pooling)
        progress("verifying model.onnx")
        parity: dict[str, float | None] = {}
        parity.update(verify.graph(facts, model, expected, tried, on_check, verify.BARS[job.precision]))
        if exact is not None:
            progress("comparing int8 with float32 on real texts")
            for runtime in tried:
                precision_gate.require(exact, precision_gate.vectors(source, model, runtime), runtime.label, on_check)
        if job.oldest_runtime is None:
            parity[runtimes.OLDEST] = None
        progress("writing the manifest")
        written = [artifacts.TOKENIZER, *(path.relative_to(staged) for path in onnx_file.files(model))]
        result = _manifest(facts, job, choice, staged, written, parity)
        manifests = manifest.write(result, staged)
        progress(f"moving the files into {job.repository}")
        possible = artifacts.MODEL.with_name(artifacts.MODEL.name + onnx_file.DATA_SUFFIX)
        obsolete = [] if possible in written else [possible]
        artifacts.install(staged, job.repository, [*written, *manifests], obsolete)
    return manifest.check(job.repository)


def _race(source: encoder.Encoder, job: Job, progress: Progress) -> graphs.Race:
    def race(exporters: Mapping[str, Exporter]) -> Mapping[str, float]:
        progress(f"timing the {' and the '.join(exporters)} graph on {job.race_on[0]}")
        with tempfile.TemporaryDirectory(prefix="export-race-") as folder:
            paths = {name: Path(folder) / name / artifacts.MODEL.name for name in exporters}
            for name, exporter in exporters.items():
                paths[name].parent.mkdir()
                exporter.to_onnx(source, paths[name])
                precision.convert(paths[name], job.precision)
                pooled.append(paths[name], source.facts.pooling)
            return graph_race.texts_per_s(paths, source, job.race_on)

    return race


def _manifest(
    facts: encoder.Facts,
    job: Job,
    choice: graphs.Choice,
    staged: Path,
    written: list[Path],
    parity: Mapping[str, float | None],
) -> Manifest:
    graph = onnx.load(staged / artifacts.MODEL, load_external_data=False)
    recorded = {field.name for field in dataclasses.fields(Manifest)}
    known = {name: value for name, value in dataclasses.asdict(facts).items() if name in recorded}
    return manifest.with_digest(
        Manifest(
            **known,
            precision=job.precision,
            graph=choice.graph,
            graph_reason=choice.reason,
            graph_texts_per_s=choice.texts_per_s,
            opset=next(entry.version for entry in graph.opset_import if not entry.domain),
            ir_version=graph.ir_version,
            files={path.as_posix(): manifest.sha256(staged / path) for path in written},
            parity=parity,
            versions={
                "python": platform.python_version(),
                **{tool: importlib.metadata.version(tool) for tool in TOOLS},
            },
        )
    )
