"""Bare tritonclient calls, for tests of what Triton itself answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import np_to_triton_dtype


def tensor(name: str, array: np.ndarray) -> triton.InferInput:
    result = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    result.set_data_from_numpy(array)
    return result


def text_tensor(texts: Sequence[str | bytes]) -> np.ndarray:
    """(n, 1) objects of bytes."""
    raw = [text.encode() if isinstance(text, str) else text for text in texts]
    return np.array([[item] for item in raw], dtype=np.object_)


class Triton:
    """A gRPC connection to Triton."""

    def __init__(self, port: int) -> None:
        self.client = triton.InferenceServerClient(f"127.0.0.1:{port}")

    def infer(self, model: str, **arrays: np.ndarray) -> Any:
        return self.client.infer(model, [tensor(name, array) for name, array in arrays.items()])

    def embed(
        self,
        texts: Sequence[str | bytes],
        max_length: int | Sequence[int] | None = None,
        ensemble: str = "embedding",
    ) -> np.ndarray:
        """(n, hidden) float32 from the ensemble; `max_length` None leaves the tensor out."""
        arrays = {"TEXT": text_tensor(texts)}
        if max_length is not None:
            limits = np.broadcast_to(np.asarray(max_length, dtype=np.int32).reshape(-1, 1), (len(texts), 1))
            arrays["MAX_LENGTH"] = np.ascontiguousarray(limits)
        embedding: np.ndarray = self.infer(ensemble, **arrays).as_numpy("EMBEDDING")
        return embedding

    def mean_batch_size(self, model: str, before: Any = None) -> float:
        """Inferences per execution, since `before` (a value of `statistics`) or since the start."""
        now = self.statistics(model)
        count, executions = now.inference_count, now.execution_count
        if before is not None:
            count, executions = count - before.inference_count, executions - before.execution_count
        return float(count / executions)

    def statistics(self, model: str) -> Any:
        return self.client.get_inference_statistics(model).model_stats[0]


def infer(text: str, max_length: int = 128) -> dict[str, Any]:
    """A request to Triton's own HTTP port."""
    return {
        "inputs": [
            {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": [text]},
            {"name": "MAX_LENGTH", "shape": [1, 1], "datatype": "INT32", "data": [max_length]},
        ]
    }
