"""The truth that vectors are compared with: transformers and a masked mean in float64, each text alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer


class Reference:
    """A model folder as transformers runs it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _model(self) -> torch.nn.Module:
        return AutoModel.from_pretrained(self._folder).eval()

    @cached_property
    def _tokenizer(self) -> AutoTokenizer:
        return AutoTokenizer.from_pretrained(self._folder)

    def embed(self, texts: Sequence[str], max_length: int, truncation_side: str = "right") -> np.ndarray:
        """(n, hidden) float32: each text alone, so that no padding exists that could have a part."""
        return np.stack([self._embed_one(text, max_length, truncation_side) for text in texts])

    def _embed_one(self, text: str, max_length: int, truncation_side: str) -> np.ndarray:
        self._tokenizer.truncation_side = truncation_side
        encoded = self._tokenizer(text, truncation=True, max_length=max_length, padding=False, return_tensors="pt")
        with torch.inference_mode():
            states = self._model(**encoded).last_hidden_state  # (1, tokens, hidden)
        pooled: np.ndarray = states[0].double().mean(dim=0).float().numpy()
        return pooled
