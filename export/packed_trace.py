"""Runs an encoder on packed tokens: all real tokens of a batch as one single row without padding.

    input_ids, position_ids, token_type_ids: (1, tokens) int64 -> last_hidden_state: (1, tokens, hidden) float32

Every layer but attention treats tokens one by one and cannot tell the difference. Attention is replaced through
transformers' own attention interface, so no encoder is re-implemented here. Two things are put in its place: in
packed_trial.py a function that computes, here a marker in the traced graph, which packed_assembly.py replaces again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import onnx_ir as ir
import torch
import transformers
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from export.encoder import HiddenStates
from export.padded import quiet

__all__ = ["MARKER", "OPSET", "Attention", "PackedStates", "attention_replaced", "scale", "trace"]

# Gelu became a single operator in opset 20. ONNX Runtime 1.19 reads up to 21.
OPSET = 20
MARKER = ("export.packed", "Attention")  # domain and operator of the node that stands for attention
INTERFACE = "export_packed"

Attention = Callable[..., tuple[torch.Tensor, None]]


class PackedStates(torch.nn.Module):
    """HiddenStates on packed tokens: positions are given, and there is no mask."""

    def __init__(self, model: transformers.PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.takes_token_types = HiddenStates(model).takes_token_types

    def forward(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        """(1, tokens) int64, three times -> (1, tokens, hidden) float32."""
        extra = {"token_type_ids": token_type_ids} if self.takes_token_types else {}
        output = self.model(input_ids=input_ids, position_ids=position_ids, attention_mask=None, **extra)
        return cast(torch.Tensor, output.last_hidden_state)


def trace(model: transformers.PreTrainedModel) -> ir.Model:
    """The encoder on packed tokens as ONNX, with one MARKER node per attention.

    Inputs input_ids, position_ids, token_type_ids: (1, tokens) int64; one output: (1, tokens, hidden) float32.
    """
    tokens = torch.export.Dim("tokens")
    example = tuple(torch.ones((1, 7), dtype=torch.long) for _ in range(3))
    with quiet(), torch.inference_mode(False), torch.no_grad(), attention_replaced(model, _mark):
        program = torch.onnx.export(
            PackedStates(model).eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=["input_ids", "position_ids", "token_type_ids"],
            dynamic_shapes=tuple({1: tokens} for _ in example),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    return program.model


@contextlib.contextmanager
def attention_replaced(model: transformers.PreTrainedModel, attention: Attention) -> Iterator[None]:
    """Within this context the model calls `attention`, with the arguments of transformers' attention interface."""

    def no_mask(*args: Any, **kwargs: Any) -> None:
        return None

    AttentionInterface.register(INTERFACE, attention)
    AttentionMaskInterface.register(INTERFACE, no_mask)
    before = model.config._attn_implementation
    model.config._attn_implementation = INTERFACE
    try:
        yield
    finally:
        model.config._attn_implementation = before


def scale(query: torch.Tensor, scaling: float | None) -> float:
    """What scores are multiplied with: as given, or the usual."""
    return float(query.shape[-1] ** -0.5 if scaling is None else scaling)


def _mark(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """(1, heads, tokens, size), three times -> the marker on (1, tokens, hidden) -> (1, tokens, heads, size)."""
    _, heads, tokens, size = query.shape
    hidden = heads * size
    inputs = [states.transpose(1, 2).reshape(1, tokens, hidden) for states in (query, key, value)]
    attended = torch.onnx.ops.symbolic(
        "::".join(MARKER),
        inputs,
        {"heads": heads, "scaling": scale(query, scaling)},
        dtype=query.dtype,
        shape=(1, tokens, hidden),
        version=1,
    )
    return attended.reshape(1, tokens, heads, size), None
