"""Checks that ONNX Runtime really runs the operators that the packed graph was tuned with.

Most of them are made by ONNX Runtime when it loads the graph, out of patterns: `Transpose` and `MatMul` become
`FusedMatMul`, `MatMul` and `Add` become `Gemm`. A new version of an exporter or of ONNX Runtime may spell a pattern
differently; nothing would fail, the service would just be slower. So the optimised graph is counted after each export.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime

from export.errors import GraphNotWritten
from export.packed_layout import GROUPS
from export.packed_trial import Calls

__all__ = ["Expectation", "expected", "operators", "require"]

# Operators that must not be there: each is what is left of a pattern that was not recognised, or, in the case of
# SkipLayerNormalization, slower than what it replaces (see packed_assembly.py).
SLOW = ("Erf", "SkipLayerNormalization")


@dataclass(frozen=True)
class Expectation:
    """At least `count` of these operators, together, after optimisation."""

    operators: tuple[str, ...]
    count: int


def expected(calls: Calls) -> list[Expectation]:
    """What an encoder that makes these calls should become."""
    attended = calls.attentions * (GROUPS + 1)  # each group and the rectangle
    return [
        Expectation(("FusedMatMul",), attended),  # query times key, without transposing the key first
        Expectation(("Softmax",), attended),
        Expectation(("Gemm",), calls.linears - 2 * calls.direct),  # with bias; query, key and value in one
        Expectation(("LayerNormalization",), calls.layer_norms),
        Expectation(("Gelu", "BiasGelu"), calls.gelus),
    ]


def require(path: Path, calls: Calls) -> None:
    """Raises GraphNotWritten, with all that is missing."""
    found = operators(path)
    findings = [
        f"wanted {wanted.count} {' or '.join(wanted.operators)}, got {got}"
        for wanted in expected(calls)
        if (got := sum(found[name] for name in wanted.operators)) < wanted.count
    ]
    findings += [f"wanted no {name}, got {found[name]}" for name in SLOW if found[name]]
    if findings:
        version = onnxruntime.__version__
        raise GraphNotWritten(
            f"ONNX Runtime {version} does not optimise {path.name} as it should: {'; '.join(findings)}. "
            "Something in torch, onnxscript or onnxruntime has changed; --graph padded works meanwhile."
        )


def operators(path: Path) -> Mapping[str, int]:
    """How often each operator occurs once ONNX Runtime has optimised the graph, branches included."""
    with tempfile.TemporaryDirectory(prefix="export-fused-") as folder:
        optimised = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # that an optimised graph fits one kind of processor only is no news
        options.optimized_model_filepath = str(optimised)
        # Weights go to a file of their own, or graphs beyond protobuf's 2 GiB could not be written.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(str(optimised), load_external_data=False).graph
    return Counter(node.op_type for node in _nodes(graph))


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)
