"""Real inputs of each step as perf_analyzer reads them: a JSON file, one entry per text.

texts  ->  TEXT, MAX_LENGTH (ensemble, tokenizer)
       ->  input_ids, attention_mask, token_type_ids (sequence,) (bert)
       ->  last_hidden_state (sequence, hidden), attention_mask (sequence,) (pooling)

`-b N` takes N entries that follow each other, and these must have one shape: so ids are padded to `MAX_LENGTH`, which
is what the tokenizer's padding rule does with texts like these.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

__all__ = ["MAX_LENGTH", "MODELS", "write"]

MAX_LENGTH = 128
MODELS = ("embedding", "embedding_fused", "tokenizer", "bert", "pooling")
_POOLING_TEXTS = 16  # each is 200 KB


def write(directory: Path, texts: Sequence[str], repository: Path) -> dict[str, Path]:
    """Write the files; gives them by the model's name."""
    tokenizer = Tokenizer.from_file(str(repository / "tokenizer" / "1" / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_LENGTH)
    tokenizer.enable_padding(length=MAX_LENGTH)
    encodings = tokenizer.encode_batch(list(texts))
    ids = np.array([each.ids for each in encodings], np.int64)
    mask = np.array([each.attention_mask for each in encodings], np.int64)
    few = slice(0, _POOLING_TEXTS)
    session = ort.InferenceSession(str(repository / "bert" / "1" / "model.onnx"), providers=["CPUExecutionProvider"])
    states = session.run(
        None, {"input_ids": ids[few], "attention_mask": mask[few], "token_type_ids": np.zeros_like(ids[few])}
    )[0]

    plain = [{"TEXT": [text], "MAX_LENGTH": [MAX_LENGTH]} for text in texts]
    tokenized = [
        {"input_ids": _array(row), "attention_mask": _array(row_mask), "token_type_ids": _array(np.zeros_like(row))}
        for row, row_mask in zip(ids, mask, strict=True)
    ]
    pooled = [
        {"last_hidden_state": _array(rows), "attention_mask": _array(row_mask)}
        for rows, row_mask in zip(states, mask[few], strict=True)
    ]
    contents: dict[str, list[dict[str, Any]]] = {
        "embedding": plain,
        "embedding_fused": plain,
        "tokenizer": plain,
        "bert": tokenized,
        "pooling": pooled,
    }
    paths = {}
    for model, data in contents.items():
        paths[model] = directory / f"{model}.json"
        paths[model].write_text(json.dumps({"data": data}, ensure_ascii=False))
    return paths


def _array(values: NDArray[Any]) -> dict[str, Any]:
    return {"b64": base64.b64encode(np.ascontiguousarray(values).tobytes()).decode(), "shape": list(values.shape)}
