"""Attention on packed tokens, as ONNX: (tokens, hidden) in, (tokens, hidden) out.

Query, key and value lie side by side in one tensor, qkv: (tokens, 3 * hidden). Seen as (tokens * 3 * heads, size), each
of its rows is one head of one token's query, key or value. So one Gather per operand cuts out a group as
(rows, heads, width, size), which is what the matrix products want: no transposing, no splitting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnxscript import OpBuilder

from export.packed_branch import if_else
from export.packed_layout import Group, Layout

__all__ = ["Projections", "attend"]

Floats = npt.NDArray[np.float32]


def attend(op: OpBuilder, qkv: ir.Value, layout: Layout, heads: int, hidden: int) -> ir.Value:
    """qkv: (tokens, 3 * hidden), the query already scaled -> (tokens, hidden)."""
    size = hidden // heads

    def in_rectangle(op: OpBuilder) -> list[ir.Value]:
        attended = _attend_group(op, op.Reshape(qkv, [-1, size]), layout.rectangle, masked=False)
        return [op.Reshape(op.Transpose(attended, perm=[0, 2, 1, 3]), [-1, hidden])]

    def in_groups(op: OpBuilder) -> list[ir.Value]:
        parts = op.Reshape(qkv, [-1, size])
        results = [op.Reshape(_attend_group(op, parts, group, masked=True), [-1, size]) for group in layout.groups]
        return [op.Reshape(op.Gather(op.Concat(*results, axis=0), layout.unpad), [-1, hidden])]

    return if_else(op, layout.uniform, in_rectangle, in_groups, outputs=1)[0]


def _attend_group(op: OpBuilder, parts: ir.Value, group: Group, masked: bool) -> ir.Value:
    """parts: (tokens * 3 * heads, size) -> (rows, heads, width, size)."""
    query, key, value = (op.Gather(parts, index) for index in (group.query, group.key, group.value))
    scores = op.MatMul(query, op.Transpose(key, perm=[0, 1, 3, 2]))  # (rows, heads, width, width)
    if masked:
        scores = op.Add(scores, group.mask)
    attended: ir.Value = op.MatMul(op.Softmax(scores, axis=-1), value)
    return attended


class Projections:
    """Makes one matrix product of the three that make query, key and value."""

    def __init__(self, op: OpBuilder) -> None:
        self._op = op
        self._merged: dict[tuple[str | None, ...], tuple[ir.Value, ir.Value]] = {}  # ALBERT's layers share weights

    def qkv(self, query: ir.Value, key: ir.Value, value: ir.Value, scaling: float) -> ir.Value:
        """Three times (tokens, hidden) -> (tokens, 3 * hidden), the query scaled."""
        linears = [_linear(states) for states in (query, key, value)]
        first = linears[0]
        if first is None or any(linear is None or linear.source is not first.source for linear in linears):
            # Something lies between the projection and attention, such as rotary positions.
            joined: ir.Value = self._op.Concat(self._op.Mul(query, scaling), key, value, axis=1)
            return joined
        weight, bias = self._merge([linear for linear in linears if linear is not None], scaling)
        projected: ir.Value = self._op.Gemm(first.source, weight, bias)
        return projected

    def _merge(self, linears: Sequence[_Linear], scaling: float) -> tuple[ir.Value, ir.Value]:
        names = tuple(part.name for linear in linears for part in (linear.weight, linear.bias))
        if names not in self._merged:
            scales = (np.float32(scaling), np.float32(1), np.float32(1))
            weights = [_array(linear.weight) * scale for linear, scale in zip(linears, scales, strict=True)]
            biases = [_array(linear.bias) * scale for linear, scale in zip(linears, scales, strict=True)]
            number = len(self._merged)
            self._merged[names] = (
                self._op.initializer(ir.tensor(np.concatenate(weights, axis=1)), f"qkv_{number}.weight"),
                self._op.initializer(ir.tensor(np.concatenate(biases, axis=0)), f"qkv_{number}.bias"),
            )
        return self._merged[names]


@dataclass(frozen=True)
class _Linear:
    """source @ weight + bias."""

    source: ir.Value  # (tokens, in)
    weight: ir.Value  # (in, out), constant
    bias: ir.Value  # (out,), constant


def _linear(states: ir.Value) -> _Linear | None:
    """The linear layer that ends in `states`, if one does."""
    add = states.producer()
    if add is None or add.op_type != "Add":
        return None
    for product, bias in (add.inputs, add.inputs[::-1]):
        matmul = product.producer() if product is not None else None
        if matmul is None or matmul.op_type != "MatMul" or bias is None or bias.const_value is None:
            continue
        source, weight = matmul.inputs
        if source is not None and weight is not None and weight.const_value is not None:
            return _Linear(source, weight, bias)
    return None


def _array(constant: ir.Value) -> Floats:
    tensor = constant.const_value
    if tensor is None:
        raise ValueError(f"{constant.name} is not constant")
    return np.asarray(tensor.numpy(), dtype=np.float32)
