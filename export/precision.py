"""Precision as a step of its own: a finished float32 model.onnx becomes one that computes in another number format.

model.onnx -> model.onnx, in place, the padded and the packed graph alike. Inputs, output, their types and axes stay:
last_hidden_state is float32 at every precision, because `pooling` sums up to 512 states, which float16 would round at
every step, and because no config.pbtxt may depend on how a model was exported.

    fp16   weights and arithmetic in float16, for GPUs. A CPU casts to float32 and back around each operator: right,
           and slower than fp32, which is how it is verified here. Not measured on a GPU.

    int8   linear layers in 8-bit integers, for CPUs, see precision_int8.py; accuracy by the gate in precision_gate.py.

docs/precision.md has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import onnx
from onnxruntime.transformers import float16
from onnxruntime.transformers.onnx_model import OnnxModel

from export import onnx_file, precision_int8
from export.errors import GraphNotWritten

__all__ = ["NOTES", "convert"]

# What is said while a model is converted.
NOTES = {
    "fp16": "float16, for GPUs: slower than fp32 on a CPU, and not measured on a GPU",
    "int8": "8-bit linear layers, for CPUs: less accurate than fp32, so the gate decides",
}

# Masks are written as the lowest float32, which would become the lowest float16; a score added to that overflows to
# -inf, and a row of -inf is a softmax of NaN. From here there is room for scores, and exp() of it is 0 all the same.
LARGEST_CONSTANT = 30000.0
WEIGHT_SIZE = 1024  # smaller tensors are constants of index arithmetic and the like


def convert(path: Path, precision: str) -> None:
    """Rewrites the float32 graph at `path`. Raises GraphNotWritten if that is not possible."""
    if precision == "fp32":
        return
    if precision not in NOTES:
        raise ValueError(f"precision: wanted fp32 or {' or '.join(NOTES)}, got {precision!r}")
    try:
        model = _float16(path) if precision == "fp16" else _int8(path)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise GraphNotWritten(f"{path.name} cannot be converted to {precision}: {error}") from error
    for file in onnx_file.files(path):
        file.unlink()  # or float32 weights might stay in a file beside the graph
    onnx_file.save(model, path)


def _float16(path: Path) -> onnx.ModelProto:
    # By path and not by value: so it also takes graphs beyond protobuf's 2 GiB.
    model = float16.convert_float_to_float16(str(path), keep_io_types=True, max_finite_val=LARGEST_CONSTANT)
    OnnxModel(model).topological_sort()  # it puts casts at the end, wherever they belong
    _require_float16(model.graph)
    return cast(onnx.ModelProto, model)


def _int8(path: Path) -> onnx.ModelProto:
    model = onnx.load(path)
    precision_int8.convert(model)
    return model


def _require_float16(graph: onnx.GraphProto) -> None:
    """The converter leaves some operators in float32 without a word. That may be so, but not with their weights."""
    left = [
        f"{tensor.name} {tuple(tensor.dims)}"
        for part in _graphs(graph)
        for tensor in (*part.initializer, *_constants(part))
        if tensor.data_type == onnx.TensorProto.FLOAT and math.prod(tensor.dims) >= WEIGHT_SIZE
    ]
    if left:
        raise GraphNotWritten(f"wanted all weights in float16, still float32: {', '.join(left)}")


def _constants(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for node in graph.node:
        if node.op_type == "Constant":
            yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
