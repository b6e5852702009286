"""The ordinary graph: what transformers computes, on the padded layout, both axes dynamic.

input_ids, attention_mask, token_type_ids: (batch, sequence) int64 -> last_hidden_state: (batch, sequence, hidden) fp32

Two mistakes that transformers lets pass in silence are errors here, on a CPU: a negative id, which ONNX counts from the
vocabulary's end, and a row without any token. Both become an id beyond the vocabulary, which the look-up refuses.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from export import onnx_file
from export.encoder import INPUT_NAMES, OUTPUT_NAME, Encoder, HiddenStates
from export.errors import GraphNotWritten

__all__ = ["to_onnx", "unsupported_reason"]


def unsupported_reason(model: object) -> str | None:
    """Every encoder can be exported this way."""
    return None


class GuardedStates(HiddenStates):
    """HiddenStates that refuse negative ids and rows without a token."""

    def __init__(self, model: torch.nn.Module, vocabulary: int) -> None:
        super().__init__(model)
        self.vocabulary = vocabulary

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        """As HiddenStates."""
        valid = (input_ids >= 0) & (attention_mask != 0).any(dim=1, keepdim=True)
        return super().forward(torch.where(valid, input_ids, self.vocabulary), attention_mask, token_type_ids)


def to_onnx(encoder: Encoder, path: Path) -> None:
    """Writes `path`, and `path`.data beside it if the weights do not fit in one file."""
    batch, sequence = torch.export.Dim("batch"), torch.export.Dim("sequence")
    # Any shape but one with equal or single axes, which torch.export would specialise on.
    ids = torch.ones((2, 7), dtype=torch.long)
    example = (ids, ids.clone(), torch.zeros_like(ids))
    try:
        with quiet(), torch.inference_mode(False), torch.no_grad():
            program = torch.onnx.export(
                GuardedStates(encoder.model, encoder.facts.vocab_size).eval(),
                example,
                dynamo=True,
                opset_version=onnx_file.OPSET,
                input_names=list(INPUT_NAMES),
                output_names=[OUTPUT_NAME],
                dynamic_shapes=tuple({0: batch, 1: sequence} for _ in INPUT_NAMES),
                verbose=False,
            )
    except (RuntimeError, ValueError, TypeError) as error:
        raise GraphNotWritten(f"torch.onnx.export failed on {encoder.facts.architecture}: {error}") from error
    if program is None:
        raise GraphNotWritten("torch.onnx.export returned nothing")
    onnx_file.save(program.model_proto, path)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the exporter's own remarks (unused axis names, no torchvision): a failure raises, and is verified."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
