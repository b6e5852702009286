"""ONNX `If`, written as two functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir
from onnxscript import OpBuilder

__all__ = ["if_else"]

Branch = Callable[[OpBuilder], Sequence[ir.Value]]


def if_else(op: OpBuilder, condition: ir.Value, then: Branch, otherwise: Branch, outputs: int) -> Sequence[ir.Value]:
    """Both branches may use all values of the graph around them, and must return `outputs` values of equal types."""
    graphs = []
    for name, branch in (("then", then), ("else", otherwise)):
        declared = [ir.Value() for _ in range(outputs)]
        op.builder.push_module(name)  # names in a branch must differ from those around it
        graphs.append(op.builder.subgraph(branch, [], declared, name=name))
        op.builder.pop_module()
    results = op.If(condition, then_branch=graphs[0], else_branch=graphs[1], _outputs=outputs)
    chosen: Sequence[ir.Value] = [results] if outputs == 1 else results
    for value, example in zip(chosen, graphs[1].outputs, strict=True):
        value.type = example.type
    return chosen
