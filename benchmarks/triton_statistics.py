"""What Triton counts about itself: mean batch sizes, and where a request's time goes in each step.

Read before and after a measurement; the difference is the measurement's. Times are sums over requests in Triton's
terms: `queue` waits for the batcher, `input` and `output` copy tensors into and out of the step, `infer` runs it. For
a Python step the crossing to its process is part of `infer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import httpx

__all__ = ["Step", "difference", "fetch"]

STEPS = ("tokenizer", "bert", "pooling")
ENSEMBLES = ("embedding", "embedding_fused")
MODELS = (*STEPS, *ENSEMBLES)


@dataclass(frozen=True)
class Step:
    """Counts and sums of milliseconds of one model. `inferences` are texts, `executions` are batches."""

    requests: int
    inferences: int
    executions: int
    total_ms: float
    queue_ms: float
    input_ms: float
    infer_ms: float
    output_ms: float

    @property
    def batch(self) -> float:
        """Texts per execution."""
        return self.inferences / self.executions if self.executions else 0.0

    def per_request(self) -> dict[str, float]:
        """Milliseconds of one request, by part."""
        if not self.requests:
            return {}
        parts = {"total": self.total_ms, "queue": self.queue_ms, "input": self.input_ms, "infer": self.infer_ms}
        return {name: sum_ms / self.requests for name, sum_ms in {**parts, "output": self.output_ms}.items()}


def fetch(http_url: str) -> dict[str, Step]:
    """The statistics of all steps since the server's start."""
    answer = httpx.get(f"{http_url}/v2/models/stats", trust_env=False, timeout=10).raise_for_status()
    return {model["name"]: _step(model) for model in answer.json()["model_stats"] if model["name"] in MODELS}


def difference(after: Mapping[str, Step], before: Mapping[str, Step]) -> dict[str, Step]:
    """What happened between two fetches."""
    return {
        name: Step(**{key: value - asdict(before[name])[key] for key, value in asdict(step).items()})
        for name, step in after.items()
    }


def _step(model: Mapping[str, Any]) -> Step:
    times = model["inference_stats"]

    def milliseconds(name: str) -> float:
        return float(times.get(name, {}).get("ns", 0)) / 1e6

    return Step(
        requests=int(times["success"].get("count", 0)),
        inferences=int(model.get("inference_count", 0)),
        executions=int(model.get("execution_count", 0)),
        total_ms=milliseconds("success"),
        queue_ms=milliseconds("queue"),
        input_ms=milliseconds("compute_input"),
        infer_ms=milliseconds("compute_infer"),
        output_ms=milliseconds("compute_output"),
    )
