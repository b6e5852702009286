"""int8 for CPUs: each linear layer multiplies 8-bit integers, with one scale per token.

x: (..., tokens, in) float32 -> y: (..., tokens, out) float32, in place of MatMul(x, W) with a constant W (in, out):

    largest = max|x| of each token                          (..., tokens, 1)
    q       = round(127 * x / largest) + 128                uint8
    y       = largest * MatMulIntegerToFloat(q, Wq)         the integer product, times the scale of each column of W

With one scale per token a text's vector does not depend on its neighbours, as it does with the one scale per batch of
plain dynamic quantisation; and nothing has to be calibrated. Weights have 7 bits: the AVX2 kernel adds two products
of uint8 and int8 in 16 bits, which saturates with 8. Everything else (attention, normalisation, embeddings) stays
float32.

MatMulIntegerToFloat is ONNX Runtime's own operator, in 1.19 too, on CPUs only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

__all__ = ["convert"]

DOMAIN = "com.microsoft"
WEIGHT_STEPS = 63  # 255 * 63 * 2 < 2**15
ACTIVATION_STEPS = 127
ZERO_POINT = 128
# A token of zeros has no scale; below this, it counts as zeros.
SMALLEST = 1e-6
MIN_OPSET = 18  # ReduceMax takes its axes as an input since

Floats = npt.NDArray[np.float32]


def convert(model: onnx.ModelProto) -> int:
    """Rewrites the linear layers in place; returns how many. Raises ValueError if there are none."""
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    if opset < MIN_OPSET:
        raise ValueError(f"wanted opset {MIN_OPSET} at least, got {opset}")
    rewriting = _Rewriting(model.graph)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        model.graph.node.extend(rewriting.replaced(node))
    if not rewriting.weights:
        raise ValueError("wanted a product with a constant matrix, found none")
    used = {name for node in model.graph.node for name in _reads(node)}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, *rewriting.new])
    if all(entry.domain != DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return rewriting.layers


class _Rewriting:
    """One graph: its constants, and what has been quantised, because layers share inputs and weights."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self.new: list[onnx.TensorProto] = []
        self.weights: set[str] = set()
        self._inputs: set[str] = set()
        self.layers = 0
        self._constant("int8.axis", np.array([-1], dtype=np.int64))
        self._constant("int8.smallest", np.array(SMALLEST, dtype=np.float32))
        self._constant("int8.step", np.array(1 / ACTIVATION_STEPS, dtype=np.float32))
        self._constant("int8.zero", np.array(ZERO_POINT, dtype=np.uint8))

    def replaced(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The nodes that compute what `node` does."""
        weight = self._weight(node)
        if weight is None:
            return [node]
        self.layers += 1
        source, name = node.input[0], node.input[1]
        if name not in self.weights:
            self._quantise(name, weight)
        product, result = f"{node.output[0]}.int8_product", node.output[0]
        biased = node.op_type == "Gemm" and len(node.input) == 3
        scaled = f"{result}.int8_scaled" if biased else result
        nodes = [] if source in self._inputs else _quantised(source)
        self._inputs.add(source)
        operands = [f"{source}.int8", f"{name}.int8", "int8.step", f"{name}.int8_scale", "int8.zero"]
        nodes.append(helper.make_node("MatMulIntegerToFloat", operands, [product], domain=DOMAIN))
        nodes.append(helper.make_node("Mul", [product, f"{source}.int8_largest"], [scaled]))
        if biased:
            nodes.append(helper.make_node("Add", [scaled, node.input[2]], [result]))
        return nodes

    def _weight(self, node: onnx.NodeProto) -> Floats | None:
        """(in, out), if the node is a linear layer."""
        tensor = self._constants.get(node.input[1]) if node.op_type in ("MatMul", "Gemm") else None
        if tensor is None or len(tensor.dims) != 2 or tensor.data_type != onnx.TensorProto.FLOAT:
            return None
        if any(helper.get_attribute_value(attribute) not in (0, 1.0) for attribute in node.attribute):
            return None
        if any(attribute.name.startswith("trans") and attribute.i for attribute in node.attribute):
            return None
        return np.asarray(numpy_helper.to_array(tensor), dtype=np.float32)

    def _quantise(self, name: str, weight: Floats) -> None:
        scale = np.maximum(np.abs(weight).max(axis=0), SMALLEST) / WEIGHT_STEPS
        self._constant(f"{name}.int8", np.round(weight / scale).astype(np.int8))
        self._constant(f"{name}.int8_scale", scale.astype(np.float32))
        self.weights.add(name)

    def _constant(self, name: str, values: npt.NDArray[np.generic]) -> None:
        self.new.append(numpy_helper.from_array(values, name))


def _quantised(source: str) -> list[onnx.NodeProto]:
    """`source` -> `source`.int8, and `source`.int8_largest."""

    def name(part: str) -> str:
        return f"{source}.int8_{part}"

    return [
        helper.make_node("Abs", [source], [name("size")]),
        helper.make_node("ReduceMax", [name("size"), "int8.axis"], [name("maximum")], keepdims=1),
        helper.make_node("Max", [name("maximum"), "int8.smallest"], [name("largest")]),
        helper.make_node("Div", [source, name("largest")], [name("relative")]),
        helper.make_node("QuantizeLinear", [name("relative"), "int8.step", "int8.zero"], [f"{source}.int8"]),
    ]


def _reads(node: onnx.NodeProto) -> set[str]:
    """All names a node reads, in its branches too."""
    inside = (name for entry in node.attribute if entry.HasField("g") for sub in entry.g.node for name in _reads(sub))
    results = (out.name for entry in node.attribute if entry.HasField("g") for out in entry.g.output)
    return {*node.input, *inside, *results}
