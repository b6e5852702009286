"""The stand-in backend's reading of config.pbtxt: what the C++ backend honours is honoured, the rest refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import session
from onnx import TensorProto, helper


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y (batch, 2) = x (batch, 2) + x."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])
    model = helper.make_model(
        helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    path = tmp_path_factory.mktemp("version") / "model.onnx"
    onnx.save(model, path)
    return path


def config(**fields: Any) -> dict[str, Any]:
    parameters = {key: {"string_value": value} for key, value in fields.pop("parameters", {}).items()}
    return {"max_batch_size": 8, "parameters": parameters, **fields}


def tensor(name: str, dims: list[int], data_type: str = "TYPE_FP32") -> dict[str, Any]:
    return {"name": name, "data_type": data_type, "dims": dims}


FITTING = {"input": [tensor("x", [2])], "output": [tensor("y", [2])]}


def test_signature(graph: Path) -> None:
    assert session.read_signature(graph) == session.Signature(
        (session.TensorSpec("x", "TYPE_FP32", (-1, 2)),), (session.TensorSpec("y", "TYPE_FP32", (-1, 2)),)
    )


def test_model_file_name(graph: Path) -> None:
    assert session.model_path({}, graph.parent) == graph
    assert session.model_path({"default_model_filename": "model.onnx"}, graph.parent) == graph
    with pytest.raises(session.ConfigError, match=r"wanted the graph in other\.onnx"):
        session.model_path({"default_model_filename": "other.onnx"}, graph.parent)


def test_fitting_config(graph: Path) -> None:
    session.check_signature(session.read_signature(graph), config(**FITTING))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input": [tensor("z", [2])]}, r"input: wanted \['x'\], got \['z'\]"),
        ({"output": [tensor("z", [2])]}, "output 'z': the graph has y"),
        ({"input": [tensor("x", [3])]}, r"input 'x': wanted dims \[2\]"),
        ({"output": [tensor("y", [-1])]}, r"output 'y': wanted dims \[2\] as in the graph, got \[-1\]"),
        ({"input": [tensor("x", [2], "TYPE_INT64")]}, "input 'x': wanted TYPE_FP32"),
        ({"max_batch_size": 0}, r"wanted dims \[-1, 2\]"),
    ],
)
def test_unfitting_config(graph: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(session.ConfigError, match=message):
        session.check_signature(session.read_signature(graph), config(**{**FITTING, **fields}))


def test_fixed_batch_axis_cannot_batch() -> None:
    fixed = session.Signature((session.TensorSpec("x", "TYPE_FP32", (1, 2)),), ())
    with pytest.raises(session.ConfigError, match="wanted a dynamic first axis of input 'x'"):
        session.check_signature(fixed, config())


def test_options_honoured() -> None:
    options = session.session_options(
        config(
            parameters={
                "intra_op_thread_count": "3",
                "inter_op_thread_count": "2",
                "execution_mode": "1",
                "enable_mem_arena": "off",
                "enable_mem_pattern": "0",
                "session.intra_op.allow_spinning": "0",
                "unknown": "ignored",
            },
            optimization={"graph": {"level": 1}},
        ),
        intra_op_threads=0,
    )
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 2)
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert not options.enable_cpu_mem_arena
    assert not options.enable_mem_pattern
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED


def test_server_threads_override_the_model() -> None:
    parameters = {"intra_op_thread_count": "3"}
    assert session.session_options(config(parameters=parameters), intra_op_threads=2).intra_op_num_threads == 2


@pytest.mark.parametrize(
    ("level", "expected"), [(-1, "BASIC"), (0, "ALL"), (1, "EXTENDED"), (2, "DISABLE_ALL"), (7, "ALL")]
)
def test_graph_level(level: int, expected: str) -> None:
    options = session.session_options(config(optimization={"graph": {"level": level}}), 0)
    assert options.graph_optimization_level.name.endswith(expected)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("intra_op_thread_count", "many"),
        ("execution_mode", "2"),
        ("enable_mem_arena", "maybe"),
        ("enable_mem_pattern", "2"),
    ],
)
def test_bad_values_are_refused(key: str, value: str) -> None:
    with pytest.raises(session.ConfigError, match=f"parameter {key}: wanted .*, got '?{value}"):
        session.session_options(config(parameters={key: value}), 0)


def test_arena_shrinkage_is_a_run_option(graph: Path) -> None:
    options = session.run_options(config(parameters={"memory.enable_memory_arena_shrinkage": "cpu:0"}))
    opened = session.open_session(graph, ort.SessionOptions(), "CPU", 0)
    assert opened.run(["y"], {"x": np.ones((1, 2), np.float32)}, options)[0].tolist() == [[2.0, 2.0]]
    assert session.run_options(config()) is None


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gpu_instance_without_a_gpu_is_refused(graph: Path) -> None:
    with pytest.raises(session.ConfigError, match="wanted CUDA"):
        session.open_session(graph, ort.SessionOptions(), "GPU", 0)
