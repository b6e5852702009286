"""Puts the packed graph together: layout, the traced encoder on packed tokens, and unpacking.

    input_ids, attention_mask, token_type_ids: (batch, sequence) int64
      -> gathered to (tokens,), see packed_layout.py
      -> the encoder's own operators on (tokens, hidden), attention as in packed_attention.py
      -> last_hidden_state: (batch, sequence, hidden) float32, zeros where there is no token

The encoder was traced on (1, tokens, ...). The 1 is dropped: two-dimensional products and their bias become one Gemm,
and ONNX Runtime does not turn `Add` and `LayerNormalization` into `SkipLayerNormalization`, which in 1.31 takes six
times as long as the two (640 tokens of 384: 1.45 ms against 0.22 ms; in 1.19: 0.33 against 0.58).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript import GraphBuilder, OpBuilder

from export import packed_layout
from export.encoder import INPUT_NAMES, OUTPUT_NAME
from export.onnx_file import MAX_IR_VERSION
from export.packed_attention import Projections, attend
from export.packed_layout import Layout
from export.packed_trace import MARKER, OPSET
from export.packed_trial import Positions

__all__ = ["assemble"]

# Operators that treat each token on its own if their other operands are constants of one axis.
ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Neg", "Erf", "Gelu", "Tanh", "Relu", "Sigmoid"})
NORMALIZATIONS = frozenset({"LayerNormalization", "RMSNormalization"})


def assemble(traced: ir.Model, positions: Positions, vocabulary: int) -> ir.Model:
    """traced: what packed_trace.trace returns; it is used up. vocabulary: ids are below it."""
    graph = ir.Graph([], [], nodes=[], name="packed", opset_imports={"": OPSET})
    builder = GraphBuilder(graph)
    op = builder.op
    inputs = [builder.input(name, ir.DataType.INT64, ["batch", "sequence"]) for name in INPUT_NAMES]
    input_ids, attention_mask, token_type_ids = inputs
    heads = _heads(traced.graph)
    layout = packed_layout.build(op, input_ids, attention_mask, positions, heads, vocabulary)
    tokens = {
        "input_ids": layout.input_ids,
        "position_ids": layout.position_ids,
        "token_type_ids": op.GatherND(token_type_ids, layout.where),
    }
    hidden = _Transcription(builder, layout).copy(traced.graph, tokens)
    states = _unpack(op, hidden, layout)
    states.shape = ir.Shape(["batch", "sequence", _last_axis(hidden)])
    builder.add_output(states, OUTPUT_NAME)
    model = ir.Model(graph, ir_version=MAX_IR_VERSION)
    passes.RemoveUnusedNodesPass()(model)
    return model


class _Transcription:
    """Copies the traced encoder, node by node, without the leading axis of 1 and with real attention."""

    def __init__(self, builder: GraphBuilder, layout: Layout) -> None:
        self._op = builder.op
        self._graph = builder.graph
        self._layout = layout
        self._projections = Projections(builder.op)
        self._flat: set[ir.Value] = set()  # values that have lost their leading axis

    def copy(self, traced: ir.Graph, tokens: dict[str, ir.Value]) -> ir.Value:
        """tokens: (tokens,) int64 by input name -> (tokens, hidden) float32."""
        _cancel_reshapes(traced)
        nodes, (result,) = list(traced), traced.outputs
        traced.outputs.clear()
        for value in traced.inputs:
            value.replace_all_uses_with(tokens[str(value.name)])
        self._flat.update(tokens.values())
        traced.remove(nodes)
        for value in list(traced.initializers.values()):
            traced.initializers.pop(str(value.name))
            self._graph.register_initializer(value)
        for node in nodes:
            if (node.domain, node.op_type) == MARKER:
                attended = self._attention(node)
                self._flat.add(attended)
                if node.outputs[0] is result:
                    result = attended
                node.outputs[0].replace_all_uses_with(attended)
            else:
                self._copy(node)
        return self._flattened(result)

    def _copy(self, node: ir.Node) -> None:
        if self._is_tokenwise(node):
            for output in node.outputs:
                output.shape = ir.Shape(output.shape[1:]) if output.shape is not None else None
                self._flat.add(output)
        else:
            for index, value in enumerate(node.inputs):
                if value in self._flat:
                    node.replace_input_with(index, self._op.Unsqueeze(value, [0]))
        self._graph.append(node)

    def _attention(self, node: ir.Node) -> ir.Value:
        query, key, value = (self._flattened(states) for states in node.inputs if states is not None)
        heads, scaling = node.attributes.get_int("heads", 0), node.attributes.get_float("scaling", 1.0)
        hidden = _last_axis(node.outputs[0])
        for index in range(len(node.inputs)):  # or the three products that become one would still be in use
            node.replace_input_with(index, None)
        qkv = self._projections.qkv(query, key, value, scaling)
        return attend(self._op, qkv, self._layout, heads, hidden)

    def _flattened(self, value: ir.Value) -> ir.Value:
        return value if value in self._flat else self._op.Squeeze(value, [0])

    def _is_tokenwise(self, node: ir.Node) -> bool:
        """Whether the node computes the same without the leading axis."""
        if node.op_type == "Gather":
            table, index = node.inputs
            return index in self._flat and _constant_rank(table) is not None and node.attributes.get_int("axis", 0) == 0
        if node.op_type == "MatMul":
            states, weight = node.inputs
            return states in self._flat and _constant_rank(weight) == 2
        if node.op_type in NORMALIZATIONS:
            return node.inputs[0] in self._flat and node.attributes.get_int("axis", -1) in (-1, 2)
        if node.op_type in ELEMENTWISE:
            # A constant of two axes would meet the leading axis, not the tokens.
            return all(value in self._flat or _constant_rank(value) in (0, 1) for value in node.inputs)
        return False


def _unpack(op: OpBuilder, hidden: ir.Value, layout: Layout) -> ir.Value:
    """(tokens, hidden) -> (batch, sequence, hidden)."""
    shape = op.Concat(layout.shape, [_last_axis(hidden)], axis=0)
    zeros = op.ConstantOfShape(shape, value=ir.tensor(np.zeros(1, np.float32)))
    states: ir.Value = op.ScatterND(zeros, layout.where, op.Mul(hidden, layout.real))
    return states


def _heads(traced: ir.Graph) -> int:
    heads = {node.attributes.get_int("heads") for node in traced if (node.domain, node.op_type) == MARKER}
    if len(heads) != 1:
        raise ValueError(f"wanted the same number of heads in all layers, got {sorted(heads)}")
    return heads.pop()


def _cancel_reshapes(graph: ir.Graph) -> None:
    """Around attention, tracing leaves reshapes that lead back to where they began."""
    for node in list(graph):
        origin = node.inputs[0] if node.op_type == "Reshape" else None
        while origin is not None:
            if origin.shape is not None and origin.shape == node.outputs[0].shape:
                node.outputs[0].replace_all_uses_with(origin, replace_graph_outputs=True)
                break
            before = origin.producer()
            origin = before.inputs[0] if before is not None and before.op_type == "Reshape" else None


def _constant_rank(value: ir.Value | None) -> int | None:
    """How many axes a constant has; None if it is no constant."""
    return None if value is None or value.const_value is None else len(value.const_value.shape)


def _last_axis(value: ir.Value) -> int:
    size = value.shape[-1] if value.shape is not None else None
    if not isinstance(size, int):
        raise ValueError(f"wanted {value.name} with a fixed last axis, got {value.shape}")
    return size
