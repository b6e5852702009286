"""The ladder: proves that the written files do what transformers does, rung by rung, before they are used.

tokens         tokenizer.json gives the ids that transformers' tokenizer gives, truncated and whole
readable       the file parses; opset and IR are ones that ONNX Runtime 1.19 reads
names          three inputs and two outputs, by name and order
dynamic axes   batch and sequence of each are symbols, the same ones everywhere
dtypes         int64 in, float32 out
shapes         every case runs, under every ONNX Runtime, and gives (batch, sequence, hidden)
               and (batch, hidden)
values         finite; states and vectors equal to transformers; every row of a batch equal to the row alone
hostile input  inputs without a right answer give finite numbers or an error, never a crash

Each rung has its own exception in errors.py. A rung collects its findings over all cases and runtimes and raises them
together, with numbers; the rungs after it are not tried. Every finished rung is reported to `on_check`, the failed
one too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import tokenizers

from export import cases, onnx_file, runtimes
from export.cases import Case, States
from export.encoder import INPUT_NAMES, OUTPUT_NAME, POOLED_NAME, Encoder, Facts
from export.errors import (
    AxesFrozen,
    DtypesDiffer,
    ExportError,
    GraphUnreadable,
    HostileInput,
    NamesDiffer,
    RuntimeCrashed,
    ShapesDiffer,
    TokensDiffer,
    ValuesDiffer,
    VerificationFailed,
)
from export.runtimes import Results, Runtime

__all__ = ["BARS", "FP32", "Bars", "Check", "Expected", "OnCheck", "expect", "graph", "pooled", "tokens"]


@dataclass(frozen=True)
class Bars:
    """The largest allowed differences, per component: absolute below 1, relative above, because that is how float32
    errs, and some encoders have a few components of 10 and more."""

    states: float  # last_hidden_state against transformers, real tokens only
    pooled: float  # the pooled vector against transformers
    neighbours: float  # the pooled vector of a row in a batch against the row alone
    direction: float  # 1 - cosine of the pooled vector and transformers'


# Vectors: what the service promises. States are not averaged over tokens and so err more: measured 6.1e-6 for MiniLM
# and 4.8e-6 for a random BERT-base (12 layers), the worse of ONNX Runtime 1.19.2 and 1.31.1.
FP32 = Bars(states=2e-5, pooled=1e-5, neighbours=1e-5, direction=1e-9)
# Worst of MiniLM and a random BERT-base, both graphs, both runtimes: 6.8e-3, 4.8e-3, 4.5e-3 and 8.3e-7.
FP16 = Bars(states=3e-2, pooled=2e-2, neighbours=2e-2, direction=1e-4)
# Random tokens, in which int8 errs more than in real text: 0.53, 0.22, 0 and 2.2e-2 for MiniLM. This rung catches
# what is broken; whether int8 is good enough is decided on real text, in precision_gate.py.
INT8 = Bars(states=2.0, pooled=1.0, neighbours=0.1, direction=0.1)
BARS: Mapping[str, Bars] = {"fp32": FP32, "fp16": FP16, "int8": INT8}


@dataclass(frozen=True)
class Check:
    """One line of the table."""

    rung: str
    passed: bool
    detail: str


OnCheck = Callable[[Check], None]


@dataclass(frozen=True)
class Expected:
    """The cases and what transformers answers to them."""

    cases: tuple[Case, ...]
    rows: Mapping[str, tuple[Case, ...]]  # by case: its rows alone
    hostile: tuple[Case, ...]
    states: Mapping[str, States]


def expect(encoder: Encoder) -> Expected:
    """Asks transformers; call it before an exporter can have touched the module."""
    batches = cases.honest(encoder)
    rows = {case.name: tuple(cases.alone(case)) for case in batches if case.name in ("uneven batch", "sentences")}
    everything = (*batches, *(row for group in rows.values() for row in group))
    return Expected(
        cases=everything,
        rows=rows,
        hostile=tuple(cases.hostile(encoder.facts)),
        states=cases.reference(encoder, everything),
    )


def tokens(encoder: Encoder, path: Path, on_check: OnCheck) -> None:
    """The tokens rung, on tokenizer.json at `path`."""
    rung = _Rung(TokensDiffer, on_check)
    limit = min(8, encoder.facts.max_sequence_length)
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # what tokenizers raises: Exception itself
        rung.findings.append(f"{path.name} cannot be read: {error}")
        rung.done("")
        return
    probes = [*cases.SENTENCES, "\tnull \x00 byte\r\n", "word " * 40]
    if not encoder.lower_case:
        # Lower-casing is a normalizer here, and special tokens are found before it: written out in a text, they are
        # words to sentence-transformers and special to us. Not worth a tokenizer of our own.
        probes.append("[SEP] <s> </s> [MASK] <pad>")
    for text in probes:
        theirs = text.lower() if encoder.lower_case else text
        tokenizer.no_truncation()
        _compare_tokens(rung, text, tokenizer.encode(text).ids, encoder.reference_tokenizer(theirs)["input_ids"])
        # Serving truncates by the tokenizer's own truncation, which keeps the special tokens.
        tokenizer.enable_truncation(limit)
        cut = encoder.reference_tokenizer(theirs, truncation=True, max_length=limit)["input_ids"]
        _compare_tokens(rung, text, tokenizer.encode(text).ids, cut)
    rung.done("same ids as transformers, whole and truncated")


def graph(
    facts: Facts,
    path: Path,
    expected: Expected,
    with_runtimes: Sequence[Runtime],
    on_check: OnCheck,
    bars: Bars = FP32,
) -> dict[str, float]:
    """All rungs of the graph at `path`. Returns the worst difference of a pooled vector by ONNX Runtime version."""
    model = _readable(path, _Rung(GraphUnreadable, on_check))
    _names(model, _Rung(NamesDiffer, on_check))
    _axes(model, _Rung(AxesFrozen, on_check))
    _dtypes(model, _Rung(DtypesDiffer, on_check))
    del model
    feeds = cases.feeds(expected.cases)
    results = [_run(runtime, path, feeds, ShapesDiffer, on_check) for runtime in with_runtimes]
    _shapes(facts, expected, results, _Rung(ShapesDiffer, on_check))
    parity = _values(facts, expected, results, bars, _Rung(ValuesDiffer, on_check))
    attacks = cases.feeds(expected.hostile)
    results = [_run(runtime, path, attacks, HostileInput, on_check) for runtime in with_runtimes]
    _hostile(results, _Rung(HostileInput, on_check))
    return parity


def pooled(states: npt.NDArray[np.generic], mask: npt.NDArray[np.int64], pooling: str) -> npt.NDArray[np.float64]:
    """(batch, sequence, hidden), (batch, sequence) -> (batch, hidden), in float64 so that it adds no error."""
    wide, real = states.astype(np.float64), mask[..., None].astype(bool)
    if pooling == "cls":
        return wide[:, 0]
    if pooling == "max":
        return np.asarray(np.where(real, wide, -np.inf).max(axis=1))
    return np.asarray(np.where(real, wide, 0.0).sum(axis=1) / real.sum(axis=1))


class _Rung:
    """Collects findings, reports the rung, raises if there are any."""

    def __init__(self, error: type[VerificationFailed], on_check: OnCheck) -> None:
        self.error = error
        self.on_check = on_check
        self.findings: list[str] = []

    def done(self, detail: str) -> None:
        if self.findings:
            more = f" (and {len(self.findings) - 1} more)" if len(self.findings) > 1 else ""
            self.on_check(Check(self.error.rung, False, self.findings[0] + more))
            raise self.error(self.findings)
        self.on_check(Check(self.error.rung, True, detail))


def _compare_tokens(rung: _Rung, text: str, ours: list[int], theirs: list[int]) -> None:
    if ours != theirs:
        rung.findings.append(f"{text[:40]!r}: wanted {theirs[:12]} ({len(theirs)}), got {ours[:12]} ({len(ours)})")


def _readable(path: Path, rung: _Rung) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError, OSError: whatever it is, the file is not a graph
        rung.findings.append(f"{path.name} is not an ONNX file: {type(error).__name__}: {error}")
        rung.done("")
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if not 1 <= opsets.get("ai.onnx", 0) <= onnx_file.MAX_OPSET:
        rung.findings.append(f"wanted opset {onnx_file.MAX_OPSET} at most, got {opsets.get('ai.onnx')}")
    if not 1 <= model.ir_version <= onnx_file.MAX_IR_VERSION:
        rung.findings.append(f"wanted IR version {onnx_file.MAX_IR_VERSION} at most, got {model.ir_version}")
    rung.done(f"opset {opsets.get('ai.onnx')}, IR {model.ir_version}, {path.stat().st_size / 1e6:.1f} MB")
    return model


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    stored = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def _names(model: onnx.ModelProto, rung: _Rung) -> None:
    wanted: tuple[tuple[str, tuple[str, ...], list[str]], ...] = (
        ("inputs", INPUT_NAMES, [value.name for value in _inputs(model)]),
        ("outputs", (OUTPUT_NAME, POOLED_NAME), [value.name for value in model.graph.output]),
    )
    for kind, names, got in wanted:
        if got != list(names):
            rung.findings.append(f"{kind}: wanted {', '.join(names)}; got {', '.join(got) or 'none'}")
    rung.done(f"{', '.join(INPUT_NAMES)} -> {OUTPUT_NAME}, {POOLED_NAME}")


def _axes(model: onnx.ModelProto, rung: _Rung) -> None:
    symbols: set[tuple[str, str]] = set()
    batches: list[str] = []
    for value in (*_inputs(model), *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        wanted = 3 if value.name == OUTPUT_NAME else 2
        shape = [dim.dim_param or (dim.dim_value if dim.HasField("dim_value") else "?") for dim in dims]
        if len(dims) != wanted:
            rung.findings.append(f"{value.name}: wanted {wanted} axes, got {shape}")
        elif value.name == POOLED_NAME:
            batches.append(dims[0].dim_param)
        elif not all(dim.dim_param for dim in dims[:2]):
            rung.findings.append(f"{value.name}: wanted (batch, sequence, …) dynamic, got {shape}")
        else:
            symbols.add((dims[0].dim_param, dims[1].dim_param))
    if any(batch not in {first for first, _ in symbols} for batch in batches):
        rung.findings.append(f"{POOLED_NAME}: wanted the batch axis of the others, got {batches}")
    if len(symbols) > 1:
        rung.findings.append(f"wanted the same two axes everywhere, got {sorted(symbols)}")
    rung.done("batch and sequence")


def _dtypes(model: onnx.ModelProto, rung: _Rung) -> None:
    for value in (*_inputs(model), *model.graph.output):
        wanted = onnx.TensorProto.FLOAT if value.name in (OUTPUT_NAME, POOLED_NAME) else onnx.TensorProto.INT64
        got = value.type.tensor_type.elem_type
        if got != wanted:
            name = onnx.TensorProto.DataType.Name
            rung.findings.append(f"{value.name}: wanted {name(wanted)}, got {name(got)}")
    rung.done("INT64 in, FLOAT out")


def _run(
    runtime: Runtime,
    path: Path,
    feeds: dict[str, dict[str, cases.Ints]],
    rung: type[VerificationFailed],
    on_check: OnCheck,
) -> Results:
    try:
        return runtimes.run(runtime, path, feeds)
    except GraphUnreadable as error:
        on_check(Check(error.rung, False, error.findings[0]))
        raise
    except RuntimeCrashed as error:
        on_check(Check(rung.rung, False, str(error)))
        raise


def _shapes(facts: Facts, expected: Expected, results: Sequence[Results], rung: _Rung) -> None:
    for result in results:
        for case in expected.cases:
            wanted = (*case.input_ids.shape, facts.hidden_size)
            got = result.outputs[case.name]
            if isinstance(got, str):
                rung.findings.append(f"{result.version}, {case.name}: wanted {wanted}, got an error: {got}")
            elif got.shape != wanted or got.dtype != np.float32:
                rung.findings.append(f"{result.version}, {case.name}: wanted {wanted}, got {got.shape} {got.dtype}")
            elif (vectors := result.pooled[case.name]).shape != (wanted[0], wanted[2]) or vectors.dtype != np.float32:
                rung.findings.append(
                    f"{result.version}, {case.name}: wanted {POOLED_NAME} {(wanted[0], wanted[2])}, "
                    f"got {vectors.shape} {vectors.dtype}"
                )
    rung.done(f"{len(expected.cases)} batches under ONNX Runtime {', '.join(result.version for result in results)}")


def _values(facts: Facts, expected: Expected, results: Sequence[Results], bars: Bars, rung: _Rung) -> dict[str, float]:
    parity: dict[str, float] = {}
    details = []
    for result in results:
        differences = list(_differences(facts, expected, result))
        worst = {}
        for kind, bar in dataclasses.asdict(bars).items():
            worst[kind] = max(found.size for found in differences if found.kind == kind)
            rung.findings += [
                f"{result.version}, {found.case}: {kind} differ by {found.size:.2e}, allowed {bar:.0e}"
                for found in differences
                if found.kind == kind and not found.size <= bar  # this way round, NaN fails
            ]
        parity[result.version] = worst["pooled"]
        details.append(f"{result.version}: " + ", ".join(f"{kind} {size:.1e}" for kind, size in worst.items()))
    rung.done("; ".join(details))
    return parity


@dataclass(frozen=True)
class _Difference:
    kind: str  # a field of Bars
    case: str
    size: float


def _differences(facts: Facts, expected: Expected, result: Results) -> Iterator[_Difference]:
    vectors = {}
    for case in expected.cases:
        states, wanted = _output(result, case), expected.states[case.name]
        real = case.attention_mask == 1
        if not np.isfinite(states).all():  # in the padding too: a consumer may multiply it by zero
            yield _Difference("states", case.name, float("nan"))
        yield _Difference("states", case.name, _worst(states[real], wanted[real]))
        vectors[case.name] = pooled(states, case.attention_mask, facts.pooling)
        vector = pooled(wanted, case.attention_mask, facts.pooling)
        yield _Difference("pooled", case.name, _worst(vectors[case.name], vector))
        yield _Difference("pooled", f"{case.name}, {POOLED_NAME}", _worst(result.pooled[case.name], vector))
        yield _Difference("direction", case.name, _turned(vectors[case.name], vector))
    for name, rows in expected.rows.items():
        for index, row in enumerate(rows):
            yield _Difference("neighbours", row.name, _worst(vectors[name][index], vectors[row.name][0]))


def _hostile(results: Sequence[Results], rung: _Rung) -> None:
    refused = 0
    for result in results:
        for name, output in result.outputs.items():
            if isinstance(output, str):
                refused += 1
            elif not (np.isfinite(output).all() and np.isfinite(result.pooled[name]).all()):
                rung.findings.append(f"{result.version}, {name}: wanted numbers or an error, got NaN or infinity")
            elif name in cases.REFUSED:
                rung.findings.append(f"{result.version}, {name}: wanted an error, got numbers")
    total = sum(len(result.outputs) for result in results)
    rung.done(f"{total} runs, {refused} refused with an error, none crashed")


def _output(result: Results, case: Case) -> States:
    output = result.outputs[case.name]
    if isinstance(output, str):
        raise ExportError(f"{case.name} has no output: {output}")
    return output.astype(np.float32, copy=False)


def _worst(got: npt.NDArray[np.generic], wanted: npt.NDArray[np.generic]) -> float:
    scale = np.maximum(1.0, np.abs(wanted.astype(np.float64)))
    return float((np.abs(got.astype(np.float64) - wanted.astype(np.float64)) / scale).max(initial=0.0))


def _turned(got: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> float:
    """1 - cosine, the worst row: (batch, hidden) each."""
    lengths = np.linalg.norm(got, axis=-1) * np.linalg.norm(wanted, axis=-1)
    return float((1.0 - (got * wanted).sum(axis=-1) / lengths).max(initial=0.0))
