"""fp16 and int8 as a step on either finished graph, and that each gate can fail."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from export import pooled, precision, precision_gate, precision_int8, real_texts, runtimes, verify
from export.errors import GraphNotWritten, ValuesDiffer
from export.precision_gate import Int8Inaccurate, Vectors
from export.verify import Check
from tests.export.conftest import Exported

GRAPHS = ("padded", "packed")


@pytest.fixture(scope="module")
def graphs(padded_graph: Path, packed_graph: Path) -> dict[str, Path]:
    return {"padded": padded_graph, "packed": packed_graph}


def converted(graph: Path, folder: Path, name: str) -> Path:
    """As an export does it: the precision first, then pooling in float32."""
    path = folder / "model.onnx"
    shutil.copy(graph, path)
    precision.convert(path, name)
    pooled.append(path, "mean")
    return path


def subgraphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from subgraphs(attribute.g)


def spoil_words(path: Path) -> None:
    """Moves every word's embedding to the next word. (The layers of a random encoder hardly matter to its vectors.)"""
    model = onnx.load(path)
    tensor = max(model.graph.initializer, key=lambda tensor: tensor.ByteSize())
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.roll(values, 1, axis=0), tensor.name))
    onnx.save(model, path)


@pytest.mark.parametrize("name", ["fp16", "int8"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_the_ladder_under_both_runtimes(
    tiny: Exported, graphs: dict[str, Path], tmp_path: Path, graph: str, name: str
) -> None:
    path = converted(graphs[graph], tmp_path, name)
    tried = [runtimes.newest(), runtimes.oldest(runtimes.oldest_folder())]
    checks: list[Check] = []
    verify.graph(tiny.encoder.facts, path, tiny.expected, tried, checks.append, verify.BARS[name])
    assert all(check.passed for check in checks)
    # It is not float32 under another name.
    with pytest.raises(ValuesDiffer):
        verify.graph(tiny.encoder.facts, path, tiny.expected, tried[:1], checks.append, verify.BARS["fp32"])


@pytest.mark.parametrize("graph", GRAPHS)
def test_fp16_leaves_no_float32_behind(graphs: dict[str, Path], tmp_path: Path, graph: str) -> None:
    path = converted(graphs[graph], tmp_path, "fp16")
    assert path.stat().st_size < 0.6 * graphs[graph].stat().st_size
    model = onnx.load(path)
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    parts = list(subgraphs(model.graph))
    assert len(parts) > 1 or graph == "padded"
    for part in parts:
        assert [tensor.name for tensor in part.initializer if tensor.data_type == TensorProto.FLOAT] == []
    # -inf in a mask and a row of it would be NaN on a GPU, where scores are really float16.
    tensors = [tensor for part in parts for tensor in (*part.initializer, *constants(part))]
    halves = [numpy_helper.to_array(tensor) for tensor in tensors if tensor.data_type == TensorProto.FLOAT16]
    assert max(float(np.abs(values.astype(np.float32)).max(initial=0)) for values in halves) <= 30000


def constants(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    return [entry.t for node in graph.node for entry in node.attribute if entry.HasField("t")]


def test_fp16_with_wrong_weights_fails(tiny: Exported, graphs: dict[str, Path], tmp_path: Path) -> None:
    path = converted(graphs["packed"], tmp_path, "fp16")
    spoil_words(path)
    with pytest.raises(ValuesDiffer, match="direction differ by"):
        verify.graph(
            tiny.encoder.facts, path, tiny.expected, [runtimes.newest()], lambda check: None, verify.BARS["fp16"]
        )


def test_a_weight_left_in_float32_is_refused(graphs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision.float16, "convert_float_to_float16", lambda path, **options: onnx.load(path))
    before = graphs["padded"].read_bytes()
    with pytest.raises(GraphNotWritten, match="still float32"):
        precision.convert(graphs["padded"], "fp16")
    assert graphs["padded"].read_bytes() == before


@pytest.mark.parametrize("graph", GRAPHS)
def test_int8_takes_every_linear_layer(graphs: dict[str, Path], tmp_path: Path, graph: str) -> None:
    layers = {"padded": 12, "packed": 8}[graph]  # 2 layers, 6 products each; packed, query, key and value are one
    path = converted(graphs[graph], tmp_path, "int8")
    operators = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert operators["MatMulIntegerToFloat"] == layers
    assert operators["QuantizeLinear"] == 8  # once per input, however many layers read it
    before = onnx.load(path)
    with pytest.raises(ValueError, match="found none"):
        precision_int8.convert(before)


def test_int8_weights_leave_room_for_avx2(graphs: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(converted(graphs["packed"], tmp_path, "int8"))
    weights = [numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == TensorProto.INT8]
    assert max(int(np.abs(values.astype(int)).max()) for values in weights) == 63


def test_the_gate_on_real_graphs(tiny: Exported, graphs: dict[str, Path], tmp_path: Path) -> None:
    checks: list[Check] = []
    runtime = runtimes.newest()
    exact = precision_gate.vectors(tiny.encoder, graphs["packed"], runtime)
    assert exact.batched.shape == (real_texts.COUNT, 32)
    assert exact.alone.shape == (precision_gate.ALONE, 32)
    precision_gate.require(exact, exact, "itself", checks.append)
    path = converted(graphs["packed"], tmp_path, "int8")
    found = precision_gate.figures(exact, precision_gate.vectors(tiny.encoder, path, runtime))
    assert found["cosine"] >= 0.99
    assert found["neighbours"] >= 0.9999  # what one scale per token is for
    spoil_words(path)
    with pytest.raises(Int8Inaccurate):
        precision_gate.require(exact, precision_gate.vectors(tiny.encoder, path, runtime), "broken", checks.append)
    assert [check.passed for check in checks] == [True, False]


def test_each_figure_can_fail_alone() -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((real_texts.COUNT, 64))
    exact = Vectors(rows, rows[: precision_gate.ALONE])

    def missed(got: Vectors) -> list[str]:
        checks: list[Check] = []
        with pytest.raises(Int8Inaccurate) as caught:
            precision_gate.require(exact, got, "made up", checks.append)
        assert not checks[-1].passed
        return [name for name in precision_gate.BARS if any(f.startswith(f"{name} is") for f in caught.value.findings)]

    turned = rows.copy()
    turned[:, 0] += 3  # all vectors turn the same way
    assert "cosine" in missed(Vectors(turned, turned[: precision_gate.ALONE]))
    alone = exact.alone.copy()
    alone[5] += random.standard_normal(64) * 0.3
    assert missed(Vectors(rows, alone)) == ["neighbours"]
    noisy = rows + random.standard_normal(rows.shape) * 0.1
    assert missed(Vectors(noisy, noisy[: precision_gate.ALONE])) == ["ranking"]
    nan = dataclasses.replace(exact, batched=np.full_like(rows, np.nan))
    assert missed(nan) == ["cosine", "neighbours", "ranking"]


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 'fp4'"):
        precision.convert(tmp_path / "model.onnx", "fp4")
