"""What ONNX Runtime alone takes for a graph: the same texts in the same batches, already tokenized, nothing around it.

    python -m benchmarks.bare MODEL.ONNX --threads 2      one question per line on standard input:
    {"batches": [[[101, …, 102], …], …], "seconds": 2[, "pause_s": 0.01]}  ->  {"elapsed_s", "circles", "latencies_s"}

A batch is padded to its own longest text. No tokenizer, no process border, and only
the vectors are taken out: what no server can beat that
runs this graph. The session is opened as the service's backend opens it, with its number of threads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.worker import serve

__all__ = ["inputs"]


def inputs(batch: Sequence[Sequence[int]]) -> dict[str, NDArray[np.int64]]:
    """Token ids of n texts -> input_ids, attention_mask, token_type_ids (n, longest) int64."""
    longest = max(len(ids) for ids in batch)
    input_ids = np.zeros((len(batch), longest), np.int64)
    attention_mask = np.zeros_like(input_ids)
    for row, ids in enumerate(batch):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "token_type_ids": np.zeros_like(input_ids),
    }


def measure(
    session: ort.InferenceSession, batches: Sequence[Sequence[Sequence[int]]], seconds: float, pause_s: float = 0
) -> dict[str, Any]:
    """Run all batches, in circles, for at least so long, with a pause before each run."""
    feeds = [inputs(batch) for batch in batches]
    for feed in feeds[:4]:
        session.run(["sentence_embedding"], feed)
    latencies: list[float] = []
    began = time.perf_counter()
    circles = 0
    while circles == 0 or time.perf_counter() - began < seconds:
        for feed in feeds:
            if pause_s:
                time.sleep(pause_s)
            start = time.perf_counter()
            session.run(["sentence_embedding"], feed)
            latencies.append(time.perf_counter() - start)
        circles += 1
    return {"elapsed_s": time.perf_counter() - began, "circles": circles, "latencies_s": latencies}


def main() -> None:
    """Answer questions until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare")
    parser.add_argument("graph", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    options = ort.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    session = ort.InferenceSession(str(arguments.graph), options, providers=["CPUExecutionProvider"])
    serve(lambda question: measure(session, question["batches"], question["seconds"], question.get("pause_s", 0)))


if __name__ == "__main__":
    main()
