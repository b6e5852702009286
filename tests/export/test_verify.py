"""A sound graph climbs the ladder; each fault fails on its own rung."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import runtimes, verify
from export.errors import (
    AxesFrozen,
    DtypesDiffer,
    GraphUnreadable,
    HostileInput,
    NamesDiffer,
    ShapesDiffer,
    TokensDiffer,
    ValuesDiffer,
    VerificationFailed,
)
from export.verify import Check
from tests.export.conftest import Exported

Change = Callable[[onnx.ModelProto], None]


def climb(tiny: Exported, path: Path) -> tuple[dict[str, float], list[Check]]:
    checks: list[Check] = []
    both = [runtimes.newest(), runtimes.oldest(runtimes.oldest_folder())]
    return verify.graph(tiny.encoder.facts, path, tiny.expected, both, checks.append), checks


def fails(tiny: Exported, tmp_path: Path, change: Change, error: type[VerificationFailed]) -> tuple[str, ...]:
    """Applies the change and returns the findings of the rung that must fail."""
    model = onnx.load(tiny.path)
    change(model)
    onnx.save(model, tmp_path / "model.onnx")
    return fails_as_it_is(tiny, tmp_path / "model.onnx", error)


def fails_as_it_is(tiny: Exported, path: Path, error: type[VerificationFailed]) -> tuple[str, ...]:
    checks: list[Check] = []
    with pytest.raises(VerificationFailed) as caught:
        verify.graph(tiny.encoder.facts, path, tiny.expected, [runtimes.newest()], checks.append)
    assert type(caught.value) is error
    # The table ends with the rung that failed; all before it passed.
    assert [check.passed for check in checks] == [True] * (len(checks) - 1) + [False]
    assert checks[-1].rung == error.rung
    return caught.value.findings


def append(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Puts nodes behind the output: they read "before" and write "last_hidden_state"."""
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == "last_hidden_state":
                node.output[index] = "before"
    model.graph.node.extend(nodes)


def constant(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:  # type: ignore[type-arg]
    model.graph.initializer.append(numpy_helper.from_array(values, name))


def test_a_sound_graph_passes_under_both_runtimes(tiny: Exported) -> None:
    parity, checks = climb(tiny, tiny.path)
    assert all(check.passed for check in checks)
    rungs = ["readable", "names", "dynamic axes", "dtypes", "shapes", "values", "hostile input"]
    assert [check.rung for check in checks] == rungs
    assert len(parity) == 2
    assert "1.19.2" in parity
    assert all(0 < worst <= 1e-5 for worst in parity.values())


def test_no_case_has_the_traced_shape_and_all_kinds_are_there(tiny: Exported) -> None:
    shapes = [case.input_ids.shape for case in tiny.expected.cases]
    assert (2, 7) not in shapes
    assert (1, 1) in shapes
    assert max(sequence for _, sequence in shapes) == tiny.encoder.facts.max_positions
    masks = [case.attention_mask for case in tiny.expected.cases]
    assert any(mask.all() and len(mask) > 1 for mask in masks)
    assert any((mask.sum(axis=1) == 1).any() and mask.shape[1] > 1 for mask in masks)
    assert any(mask.sum(axis=1).max() < mask.shape[1] for mask in masks)
    assert all((np.diff(mask, axis=1) <= 0).all() for mask in masks)  # right padding


def test_nothing_of_this_machine_is_in_the_file(tiny: Exported) -> None:
    assert b"site-packages" not in tiny.path.read_bytes()


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_a_truncated_file_is_unreadable(tiny: Exported, tmp_path: Path, keep: float) -> None:
    content = tiny.path.read_bytes()
    (tmp_path / "model.onnx").write_bytes(content[: int(len(content) * keep)])
    fails_as_it_is(tiny, tmp_path / "model.onnx", GraphUnreadable)


def test_a_missing_file_is_unreadable(tiny: Exported, tmp_path: Path) -> None:
    fails_as_it_is(tiny, tmp_path / "model.onnx", GraphUnreadable)


def test_a_file_too_new_for_the_oldest_runtime_is_unreadable(tiny: Exported, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.ir_version = 11
        model.opset_import[0].version = 22

    findings = fails(tiny, tmp_path, change, GraphUnreadable)
    assert findings == ("wanted opset 21 at most, got 22", "wanted IR version 10 at most, got 11")


def test_an_operator_that_the_runtime_does_not_know_is_unreadable(tiny: Exported, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        append(model, helper.make_node("Unheard", ["before"], ["last_hidden_state"]))

    fails(tiny, tmp_path, change, GraphUnreadable)


def test_a_renamed_output(tiny: Exported, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        append(model, helper.make_node("Identity", ["before"], ["states"]))
        model.graph.output[0].name = "states"

    assert "got states" in fails(tiny, tmp_path, change, NamesDiffer)[0]


def test_a_dropped_input(tiny: Exported, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        del model.graph.input[2]

    assert "got input_ids, attention_mask" in fails(tiny, tmp_path, change, NamesDiffer)[0]


@pytest.mark.parametrize("axis", [0, 1])
def test_a_frozen_axis(tiny: Exported, tmp_path: Path, axis: int) -> None:
    def change(model: onnx.ModelProto) -> None:
        for value in (model.graph.input[1], model.graph.output[0]):
            value.type.tensor_type.shape.dim[axis].dim_value = 7

    findings = fails(tiny, tmp_path, change, AxesFrozen)
    assert [finding.split(":")[0] for finding in findings] == ["attention_mask", "last_hidden_state"]


def test_axes_of_different_names(tiny: Exported, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[1].type.tensor_type.shape.dim[0].dim_param = "rows"

    assert "the same two axes" in fails(tiny, tmp_path, change, AxesFrozen)[0]


def test_a_wrong_dtype(tiny: Exported, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        append(model, helper.make_node("Cast", ["before"], ["last_hidden_state"], to=TensorProto.FLOAT16))
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32

    findings = fails(tiny, tmp_path, change, DtypesDiffer)
    assert findings == ("input_ids: wanted INT64, got INT32", "last_hidden_state: wanted FLOAT, got FLOAT16")


def test_an_axis_that_only_claims_to_be_dynamic(tiny: Exported, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        constant(model, "frozen", np.array([2, 7, 32]))
        append(model, helper.make_node("Reshape", ["before", "frozen"], ["last_hidden_state"]))

    findings = fails(tiny, tmp_path, change, ShapesDiffer)
    assert len(findings) == len(tiny.expected.cases)


def test_a_run_that_gives_another_shape(tiny: Exported, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        append(model, helper.make_node("Concat", ["before", "before"], ["last_hidden_state"], axis=2))

    assert "wanted (1, 1, 32), got (1, 1, 64)" in fails(tiny, tmp_path, change, ShapesDiffer)[0]


def test_a_perturbed_weight(tiny: Exported, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        weight = next(tensor for tensor in model.graph.initializer if list(tensor.dims) in ([32, 64], [64, 32]))
        values = numpy_helper.to_array(weight).copy()
        values[0, 0] += 1.0
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))

    findings = fails(tiny, tmp_path, change, ValuesDiffer)
    assert any("states differ by" in finding for finding in findings)
    assert any("pooled differ by" in finding for finding in findings)


def test_nan_is_a_difference(tiny: Exported, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        constant(model, "nan", np.array(np.nan, dtype=np.float32))
        append(model, helper.make_node("Mul", ["before", "nan"], ["last_hidden_state"]))

    assert any("states differ by nan" in finding for finding in fails(tiny, tmp_path, change, ValuesDiffer))


def test_an_ignored_attention_mask(tiny: Exported, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        ones = helper.make_node("Equal", ["attention_mask", "attention_mask"], ["always"])
        cast = helper.make_node("Cast", ["always"], ["all_ones"], to=TensorProto.INT64)
        for node in model.graph.node:
            for index, name in enumerate(node.input):
                if name == "attention_mask":
                    node.input[index] = "all_ones"
        model.graph.node.insert(0, cast)
        model.graph.node.insert(0, ones)

    findings = fails(tiny, tmp_path, change, ValuesDiffer)
    assert any("neighbours" in finding for finding in findings)
    assert not any("no padding" in finding for finding in findings)


def test_a_row_that_depends_on_its_neighbours(tiny: Exported, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        constant(model, "rows", np.array([0]))
        constant(model, "little", np.array(1e-3, dtype=np.float32))
        append(
            model,
            helper.make_node("ReduceMean", ["before", "rows"], ["mean"]),
            helper.make_node("Mul", ["mean", "little"], ["share"]),
            helper.make_node("Add", ["before", "share"], ["last_hidden_state"]),
        )

    assert any("neighbours differ by" in finding for finding in fails(tiny, tmp_path, change, ValuesDiffer))


def test_nan_from_left_padding(tiny: Exported, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        constant(model, "first", np.array([0]))
        constant(model, "last", np.array([2]))
        append(
            model,
            helper.make_node("Gather", ["attention_mask", "first"], ["mask"], axis=1),
            helper.make_node("Cast", ["mask"], ["number"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["number", "number"], ["one_or_nan"]),
            helper.make_node("Unsqueeze", ["one_or_nan", "last"], ["factor"]),
            helper.make_node("Mul", ["before", "factor"], ["last_hidden_state"]),
        )

    findings = fails(tiny, tmp_path, change, HostileInput)
    assert any("left padding: wanted numbers or an error, got NaN" in finding for finding in findings)


def test_numbers_for_rows_without_tokens_and_negative_ids(tiny: Exported, tmp_path: Path) -> None:
    """What the ordinary graph gives without its guard."""

    def change(model: onnx.ModelProto) -> None:
        guard = next(node for node in model.graph.node if node.op_type == "Where" and "input_ids" in node.input)
        for node in model.graph.node:
            for index, name in enumerate(node.input):
                if name == guard.output[0]:
                    node.input[index] = "input_ids"
        model.graph.node.remove(guard)

    findings = fails(tiny, tmp_path, change, HostileInput)
    refused = {"a row without tokens", "a batch without tokens", "one row, no tokens", "an id of -1"}
    assert {finding.split(", ", 1)[1].removesuffix(": wanted an error, got numbers") for finding in findings} == refused


def test_tokens_are_compared_with_transformers(tiny: Exported, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    checks: list[Check] = []
    tiny.encoder.tokenizer.save(str(path))
    verify.tokens(tiny.encoder, path, checks.append)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"lowercase": true', '"lowercase": false'), encoding="utf-8")
    with pytest.raises(TokensDiffer, match=r"Triton serves embeddings"):
        verify.tokens(tiny.encoder, path, checks.append)
    path.write_text(text[:1000], encoding="utf-8")
    with pytest.raises(TokensDiffer, match="cannot be read"):
        verify.tokens(tiny.encoder, path, checks.append)
    assert [check.passed for check in checks] == [True, False, False]


def test_pooling_sees_real_tokens_only() -> None:
    states = np.array([[[1.0, -1.0], [3.0, -3.0], [100.0, 100.0]]], dtype=np.float32)
    mask = np.array([[1, 1, 0]])
    assert verify.pooled(states, mask, "mean").tolist() == [[2.0, -2.0]]
    assert verify.pooled(states, mask, "cls").tolist() == [[1.0, -1.0]]
    assert verify.pooled(states, mask, "max").tolist() == [[3.0, -1.0]]
