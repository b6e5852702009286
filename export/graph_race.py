"""Which graph is faster on a GPU: both run the same real texts of mixed lengths, in turn.

On a CPU the packed graph always won, and nothing is measured at an export. On a GPU padding costs less and the packed
graph's index arithmetic, with shapes that only the data decides, may cost more: nobody has measured one yet, so each
export there does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from export import real_texts
from export.encoder import POOLED_NAME, Encoder

__all__ = ["BATCH", "gpu_providers", "texts_per_s"]

BATCH = 32  # as the REST shim cuts requests
ROUNDS = 5  # the best counts: the first ones choose kernels for each shape

Feed = Mapping[str, npt.NDArray[np.int64]]

# A graph that does not load or run has lost, whatever the reason.
_FAILURES = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.RuntimeException,
    ort_errors.EPFail,
    ort_errors.NotImplemented,
)


def gpu_providers() -> tuple[str, ...]:
    """ONNX Runtime's providers for this machine's NVIDIA GPU; none without one."""
    if not Path("/dev/nvidiactl").exists() or "CUDAExecutionProvider" not in ort.get_available_providers():
        return ()
    return ("CUDAExecutionProvider", "CPUExecutionProvider")


def texts_per_s(graphs: Mapping[str, Path], encoder: Encoder, providers: Sequence[str]) -> dict[str, float]:
    """The best of some rounds, by graph; 0 for a graph that fails there.

    Nothing at all if ONNX Runtime does not run on the first of the providers: it falls back to the next in silence.
    """
    rows = real_texts.token_ids(encoder)
    feeds = [
        real_texts.feed(rows[start : start + BATCH], encoder.facts.pad_token_id) for start in range(0, len(rows), BATCH)
    ]
    sessions = {}
    for name, path in graphs.items():
        sessions[name] = _opened(path, providers)
        if (session := sessions[name]) is not None and session.get_providers()[0] != providers[0]:
            return {}
    best = dict.fromkeys(graphs, 0.0)
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            if session is not None:
                best[name] = max(best[name], _rate(session, feeds))
    return best


def _opened(path: Path, providers: Sequence[str]) -> ort.InferenceSession | None:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # that a provider is missing is an answer here
    if "CUDAExecutionProvider" in providers:
        ort.preload_dlls()  # CUDA's libraries come as Python packages, where the dynamic loader does not look
    try:
        return ort.InferenceSession(str(path), options, providers=list(providers))
    except _FAILURES:
        return None


def _rate(session: ort.InferenceSession, feeds: Sequence[Feed]) -> float:
    began = time.perf_counter()
    try:
        for feed in feeds:
            session.run([POOLED_NAME], feed)
    except _FAILURES:
        return 0.0
    return sum(len(feed["input_ids"]) for feed in feeds) / (time.perf_counter() - began)
