"""Pooling inside the graph: a second output of model.onnx, the vector that `pooling` computes from the first.

last_hidden_state: (batch, sequence, hidden) float32, attention_mask: (batch, sequence) int64
  -> sentence_embedding: (batch, hidden) float32

Who takes it spares the states their way out of the model: 393 KB for a text of 128 tokens with 768 dimensions, against
3 KB. It is appended to the finished graph, packed or padded, after the precision was chosen: sums stay in float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export import onnx_file
from export.encoder import INPUT_NAMES, OUTPUT_NAME, POOLED_NAME
from export.errors import GraphNotWritten

__all__ = ["append"]

_PREFIX = "pooled/"
_MASK = INPUT_NAMES[1]


def append(path: Path, pooling: str) -> None:
    """Rewrites the graph at `path`; pooling is "mean", "cls" or "max". Raises GraphNotWritten for another."""
    if pooling not in _NODES:
        raise GraphNotWritten(f"pooling: wanted one of {', '.join(_NODES)}, got {pooling!r}")
    model = onnx.load(path)
    graph = model.graph
    states = next(output for output in graph.output if output.name == OUTPUT_NAME)
    batch, _, hidden = states.type.tensor_type.shape.dim
    # Named as the graph's own axis, so that both outputs are seen to have the same one.
    graph.output.append(
        helper.make_tensor_value_info(POOLED_NAME, onnx.TensorProto.FLOAT, [batch.dim_param, hidden.dim_value])
    )
    graph.node.extend(_NODES[pooling]())
    for file in onnx_file.files(path):
        file.unlink()
    onnx_file.save(model, path)


def _mean() -> list[onnx.NodeProto]:
    """The mean of the tokens' states, as a product of weights and states."""
    return [
        *_constants(axis=np.array([1], np.int64), one=np.array(1, np.float32), zero=np.array(0, np.float32)),
        _node("Cast", [_MASK], "real", to=onnx.TensorProto.BOOL),
        _node("Cast", [_name("real")], "ones", to=onnx.TensorProto.FLOAT),  # (batch, sequence)
        _node("ReduceSum", [_name("ones"), _name("axis")], "count", keepdims=1),
        _node("Max", [_name("count"), _name("one")], "tokens"),
        _node("Div", [_name("ones"), _name("tokens")], "weights"),
        _node("Unsqueeze", [_name("weights"), _name("axis")], "row"),  # (batch, 1, sequence)
        _node("MatMul", [_name("row"), OUTPUT_NAME], "product"),  # (batch, 1, hidden)
        _node("Squeeze", [_name("product"), _name("axis")], "sum"),  # (batch, hidden)
        # A product over no tokens is memory that nobody has written to, under ONNX Runtime 1.19.
        _node("Greater", [_name("count"), _name("zero")], "any"),  # (batch, 1)
        helper.make_node("Where", [_name("any"), _name("sum"), _name("zero")], [POOLED_NAME]),
    ]


def _cls() -> list[onnx.NodeProto]:
    """The state of the first token."""
    return [
        *_constants(first=np.array(0, np.int64)),
        helper.make_node("Gather", [OUTPUT_NAME, _name("first")], [POOLED_NAME], axis=1),
    ]


def _max() -> list[onnx.NodeProto]:
    """The largest of the tokens' states, component by component."""
    return [
        *_constants(axis=np.array([1], np.int64), last=np.array([2], np.int64), lowest=np.finfo(np.float32).min),
        _node("Cast", [_MASK], "real", to=onnx.TensorProto.BOOL),
        _node("Unsqueeze", [_name("real"), _name("last")], "column"),  # (batch, sequence, 1)
        _node("Where", [_name("column"), OUTPUT_NAME, _name("lowest")], "kept"),
        helper.make_node("ReduceMax", [_name("kept"), _name("axis")], [POOLED_NAME], keepdims=0),
    ]


_NODES = {"mean": _mean, "cls": _cls, "max": _max}


def _name(short: str) -> str:
    return _PREFIX + short


def _node(operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, [_name(output)], **attributes)


def _constants(**arrays: Any) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Constant", [], [_name(name)], value=numpy_helper.from_array(np.asarray(array)))
        for name, array in arrays.items()
    ]
