"""Triton adapter of pooling.

    last_hidden_state (batch, sequence, hidden) FP32, attention_mask (batch, sequence) INT64
    -> EMBEDDING (batch, hidden) FP32

The mode (mean, cls or max) is the model's own and comes from the manifest. Requests are pooled one by one: they would
have to be copied together first, and a batch of states is megabytes.
"""

from __future__ import annotations

import json
from pathlib import Path

import pool
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        manifest = json.loads((Path(pb_utils.get_model_dir()) / "manifest.json").read_bytes())
        mode = manifest["pooling"]
        if mode not in pool.POOLS:
            raise pb_utils.TritonModelException(f"pooling: wanted one of {', '.join(pool.POOLS)}, got {mode!r}")
        self._pool = pool.POOLS[mode]

    def execute(self, requests: list) -> list:
        return [self._respond(request) for request in requests]

    def _respond(self, request: object) -> object:
        states = pb_utils.get_input_tensor_by_name(request, "last_hidden_state").as_numpy()
        mask = pb_utils.get_input_tensor_by_name(request, "attention_mask").as_numpy()
        if states.shape[:2] != mask.shape:
            message = f"attention_mask: wanted shape {states.shape[:2]} as last_hidden_state has, got {mask.shape}"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG))
        return pb_utils.InferenceResponse([pb_utils.Tensor("EMBEDDING", self._pool(states, mask))])
