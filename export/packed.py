"""The packed graph: the same inputs, output and numbers as the ordinary one, without computing on padding.

input_ids, attention_mask, token_type_ids: (batch, sequence) int64 -> last_hidden_state: (batch, sequence, hidden) fp32

Real batches are mostly padding (67 % of a batch of 32 paragraphs cut at 128 tokens). Here everything but attention runs
on the real tokens only, and attention on groups of rows of similar length. Written in standard ONNX operators.

Batches of about 8 to 32 rows suit a CPU best. Beyond some 700 tokens the matrix products of ONNX Runtime lose to the
caches what larger batches gain (MiniLM: 365 us per token at 8 rows, 352 at 16, 380 at 32, 475 at 64, one busy core).

    packed_trial.py      finds out whether an encoder can be packed, by trying in torch
    packed_trace.py      runs the encoder on packed tokens and traces it to ONNX
    packed_layout.py     where each token lives: index arithmetic, in ONNX
    packed_attention.py  attention within each row, in ONNX
    packed_assembly.py   puts these together
    packed_fused.py      checks that ONNX Runtime runs the operators that this was measured with

What differs from the ordinary graph: positions without a token (mask 0) are zeros, any mask value but 0 means 1. A row
without any token is an error (on CUDA, where the look-up of ids refuses nothing, it is all zeros).
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import onnx_ir as ir
import transformers

from export import onnx_file, packed_fused, packed_trace, packed_trial
from export.encoder import Encoder
from export.errors import GraphNotWritten
from export.packed_assembly import assemble
from export.packed_trial import NotPackable

__all__ = ["to_onnx", "unsupported_reason"]


def unsupported_reason(model: object) -> str | None:
    """Why the encoder, a transformers module, cannot be packed; None if it can."""
    try:
        packed_trial.plan(cast(transformers.PreTrainedModel, model))
    except NotPackable as obstacle:
        return str(obstacle)
    return None


def to_onnx(encoder: Encoder, path: Path) -> None:
    """Writes `path`, and `path`.data beside it if the weights do not fit in one file. Raises GraphNotWritten."""
    try:
        plan = packed_trial.plan(encoder.model)
        model = assemble(packed_trace.trace(encoder.model), plan.positions, encoder.facts.vocab_size)
    except (NotPackable, RuntimeError, ValueError, TypeError) as error:
        name = encoder.facts.architecture
        raise GraphNotWritten(f"{name} cannot be written as a packed graph: {error}") from error
    onnx_file.save(ir.to_proto(model), path)
    packed_fused.require(path, plan.calls)
