"""Where each real token lives: the index tensors of the packed graph, computed once per batch, inside the graph.

The batch comes padded, (batch, sequence). Rows are sorted by length, longest first, and their real tokens are laid one
after the other: that is the packed order, in which all layers compute on (tokens, hidden). Attention is the exception:
there each row needs its own tokens as a rectangle. Sorted rows are cut into GROUPS groups, each padded to its own
longest row only. If all rows have the same length, a single text for instance, one rectangle holds them without padding
or mask: `uniform` says so, and a branch (ONNX `If`) takes the short way.

A token is real if its mask is not zero, whatever the value. A row without any real token keeps its first position as a
stand-in, so that no row is empty (a batch without tokens crashed ONNX Runtime 1.19); `real` is 0 for these, and their
id is one beyond the vocabulary, as for negative ids: the look-up refuses it (on CUDA it does not, and gives zeros).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnxscript import OpBuilder

from export.packed_branch import if_else
from export.packed_trial import Positions

__all__ = ["GROUPS", "MASKED", "Group", "Layout", "build"]

# Measured with 3, 4, 6, 8, 12 and 16 groups on batches of 4, 8, 16, 32 and 64 real texts cut at 128 tokens (MiniLM, one
# core): 8 was the fastest, or within 1 % of it, at each size; at 32 it beat 4 by 12 %. Up to 8 rows have a group each.
GROUPS = 8

# Added to the scores of padding. exp() of it is 0; float16 can hold it and a sum of it and any score.
MASKED = -30000.0

_EMPTY_INT32 = ir.tensor(np.zeros(0, dtype=np.int32))
_EMPTY_FLOAT = ir.tensor(np.zeros(0, dtype=np.float32))


@dataclass(frozen=True)
class Group:
    """Rows of similar length as a rectangle. The indices point into qkv seen as (tokens * 3 * heads, size)."""

    query: ir.Value  # (rows, heads, width) int32
    key: ir.Value  # (rows, heads, width) int32
    value: ir.Value  # (rows, heads, width) int32
    mask: ir.Value  # (rows, 1, 1, width) float32: 0 or MASKED


@dataclass(frozen=True)
class Layout:
    """What the rest of the graph needs to know of the batch."""

    where: ir.Value  # (tokens, 2) int64: row and column of each packed token in the padded batch
    input_ids: ir.Value  # (tokens,) int64: as given, or `vocabulary` where there is no token or a negative id
    position_ids: ir.Value  # (tokens,) int64
    real: ir.Value  # (tokens, 1) float32: 1, or 0 for the stand-in of an empty row
    shape: ir.Value  # (2,) int64: batch, sequence
    uniform: ir.Value  # () bool: all rows have the same length
    rectangle: Group  # all rows, if uniform; its mask is empty
    groups: Sequence[Group]  # if not uniform
    unpad: (
        ir.Value
    )  # (tokens, heads) int32: where each head of each packed token is in the groups' concatenated results


@dataclass(frozen=True)
class _Packing:
    """What the rectangles are computed from. Methods build a branch of an `If`, so each takes its own `op`."""

    batch: ir.Value  # (1,) int64
    tokens: ir.Value  # (1,) int64
    lengths: ir.Value  # (batch,) int32, longest first
    row: ir.Value  # (tokens,) int64, which of `lengths` a packed token belongs to
    heads: int

    def rectangle(self, op: OpBuilder) -> list[ir.Value]:
        """All rows have one length: packed tokens are a (batch, width) rectangle as they lie."""
        token = op.Reshape(_count(op, self.tokens), op.Concat(self.batch, [-1], axis=0))  # (batch, width)
        nothing = [op.Constant(value=_EMPTY_INT32) for _ in range(3)]
        no_mask = op.Constant(value=_EMPTY_FLOAT)
        first = [*self._heads(op, token), no_mask]
        others = [op.Identity(value) for _ in range(GROUPS - 1) for value in (*nothing, no_mask)]
        return [*first, *others, op.Identity(nothing[0])]

    def groups(self, op: OpBuilder) -> list[ir.Value]:
        """Group g holds the sorted rows from g * batch // GROUPS on; with few rows some groups are empty."""
        edges = op.Div(op.Mul(self.batch, list(range(GROUPS + 1))), [GROUPS])  # (GROUPS + 1,)
        firsts, ends = op.Slice(edges, [0], [GROUPS]), op.Slice(edges, [1], [GROUPS + 1])
        sizes = op.Sub(ends, firsts)
        # The longest row of a group is its first. (An empty group may look beyond the last row.)
        widths = op.Gather(self.lengths, op.Min(firsts, op.Sub(self.batch, 1)))  # (GROUPS,) int32
        starts = op.CumSum(self.lengths, 0, exclusive=1)  # (batch,) int32: first token of each row
        start_of = op.Split(op.Unsqueeze(starts, [1]), sizes, axis=0, _outputs=GROUPS)  # (rows, 1) each
        length_of = op.Split(op.Unsqueeze(self.lengths, [1]), sizes, axis=0, _outputs=GROUPS)  # (rows, 1) each
        width_of = op.Split(widths, num_outputs=GROUPS, axis=0, _outputs=GROUPS)  # (1,) each
        last = op.Cast(op.Sub(self.tokens, 1), to=ir.DataType.INT32)
        parts: list[ir.Value] = []
        for start, length, width in zip(start_of, length_of, width_of, strict=True):
            column = op.Range(0, op.Squeeze(width), 1)  # (width,)
            # Beyond its end a row reads whatever token follows, which the mask then hides.
            token = op.Min(op.Add(start, column), last)  # (rows, width)
            mask = op.Where(op.Less(column, length), 0.0, MASKED)
            parts += [*self._heads(op, token), op.Unsqueeze(mask, [1, 2])]
        return [*parts, self._unpad(op, widths, starts)]

    def _heads(self, op: OpBuilder, token: ir.Value) -> list[ir.Value]:
        """token: (rows, width) int32 -> where its query, key and value are, (rows, heads, width) int32 each."""
        head = op.Constant(value=ir.tensor(np.arange(self.heads, dtype=np.int32).reshape(1, -1, 1)))
        query = op.Add(op.Mul(op.Unsqueeze(token, [1]), 3 * self.heads), head)
        return [query, op.Add(query, self.heads), op.Add(query, 2 * self.heads)]

    def _unpad(self, op: OpBuilder, widths: ir.Value, starts: ir.Value) -> ir.Value:
        """Each sorted row takes up heads * width places in the results: (tokens, heads) int32."""
        row = op.Range(0, op.Squeeze(self.batch), 1)
        group = op.Div(op.Sub(op.Mul(op.Add(row, 1), GROUPS), 1), self.batch)  # inverts the edges: group of each row
        width = op.Gather(widths, group)  # (batch,)
        offset = op.CumSum(op.Mul(width, self.heads), 0, exclusive=1)  # (batch,)
        # offset[row] + column, the column of packed token t being t - starts[row]
        place = op.Add(op.Gather(op.Sub(offset, starts), self.row), _count(op, self.tokens))  # (tokens,)
        apart = op.Mul(op.Unsqueeze(op.Gather(width, self.row), [1]), list(range(self.heads)))  # (tokens, heads)
        places: ir.Value = op.Add(op.Unsqueeze(place, [1]), apart)
        return places


def build(
    op: OpBuilder,
    input_ids: ir.Value,
    attention_mask: ir.Value,
    positions: Positions,
    heads: int,
    vocabulary: int,
) -> Layout:
    """input_ids, attention_mask: (batch, sequence) int64; vocabulary: ids are below it."""
    shape = op.Shape(attention_mask)  # (2,)
    batch, sequence = op.Split(shape, num_outputs=2, _outputs=2)  # (1,) each
    given = op.Cast(attention_mask, to=ir.DataType.BOOL)  # (batch, sequence)
    count = op.ReduceSum(op.Cast(given, to=ir.DataType.INT32), [1])  # (batch, 1)
    # A row without tokens keeps column 0: only there is `column < 1 - count` ever true.
    columns = _count(op, sequence)
    kept = op.Or(given, op.Less(columns, op.Sub(1, count)))  # (batch, sequence)
    lengths, order = op.TopK(op.Squeeze(op.Max(count, 1), [1]), batch, axis=0, _outputs=2)  # (batch,) each
    row, column = op.Split(op.NonZero(op.Gather(kept, order)), num_outputs=2, axis=0, _outputs=2)  # (1, tokens) each
    row, column = op.Squeeze(row, [0]), op.Squeeze(column, [0])  # (tokens,); `row` counts in sorted order
    where = op.Concat(op.Unsqueeze(op.Gather(order, row), [1]), op.Unsqueeze(column, [1]), axis=1)
    real = op.Cast(op.GatherND(attention_mask, where), to=ir.DataType.BOOL)  # (tokens,)
    ids = op.GatherND(input_ids, where)
    valid = op.And(real, op.GreaterOrEqual(ids, 0))
    uniform = op.Equal(op.Gather(lengths, 0), op.Gather(lengths, -1))
    packing = _Packing(batch=batch, tokens=op.Shape(column), lengths=lengths, row=row, heads=heads)
    *parts, unpad = if_else(op, uniform, packing.rectangle, packing.groups, outputs=4 * GROUPS + 1)
    groups = [Group(*parts[start : start + 4]) for start in range(0, 4 * GROUPS, 4)]
    return Layout(
        where=where,
        input_ids=op.Where(valid, ids, vocabulary),
        position_ids=_position_ids(op, input_ids, column, where, positions),
        real=op.Unsqueeze(op.Cast(real, to=ir.DataType.FLOAT), [1]),
        shape=shape,
        uniform=uniform,
        rectangle=groups[0],
        groups=groups,
        unpad=unpad,
    )


def _count(op: OpBuilder, length: ir.Value) -> ir.Value:
    """length: (1,) int64 -> 0, 1, 2, ... as (length,) int32."""
    counted: ir.Value = op.Range(0, op.Cast(op.Squeeze(length), to=ir.DataType.INT32), 1)
    return counted


def _position_ids(
    op: OpBuilder, input_ids: ir.Value, column: ir.Value, where: ir.Value, positions: Positions
) -> ir.Value:
    """(tokens,) int64. The same rule as Positions.of, on the padded batch: masked tokens count too."""
    if positions.padding_id is None:
        return column
    padding = positions.padding_id
    real = op.Cast(op.Not(op.Equal(input_ids, padding)), to=ir.DataType.INT64)  # (batch, sequence)
    numbers: ir.Value = op.GatherND(op.Add(op.Mul(op.CumSum(real, 1), real), padding), where)
    return numbers
