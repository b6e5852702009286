"""The processor's limit: how many single-precision operations a second it does in the best matrix product we know.

    python -m benchmarks.limit --threads 2      {"seconds": 0.2}  ->  {"gflops": {"torch MKL 2048×384×1536": 87.1, …}}

Tried are numpy's OpenBLAS and torch's library, on a large square and on the shape of a feed-forward layer; the best
counts. With the arithmetic that the real tokens need (`flops`) it gives texts a second that nothing can exceed in
single precision on this machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.worker import serve


def measure(seconds: float, hidden: int, intermediate: int) -> dict[str, float]:
    """Billions of operations a second, by library and sizes (rows × inner × columns)."""
    blas = "MKL" if torch.backends.mkl.is_available() else "its BLAS"  # type: ignore[no-untyped-call]
    generator = np.random.default_rng(0)
    rates = {}
    for rows, inner, columns in ((2048, 2048, 2048), (2048, hidden, intermediate)):
        a = generator.standard_normal((rows, inner), dtype=np.float32)
        b = generator.standard_normal((inner, columns), dtype=np.float32)
        out = np.empty((rows, columns), np.float32)
        calls: dict[str, Callable[[], object]] = {
            "numpy OpenBLAS": partial(np.matmul, a, b, out=out),
            f"torch {blas}": partial(torch.mm, torch.from_numpy(a), torch.from_numpy(b), out=torch.from_numpy(out)),
        }
        operations = 2.0 * rows * inner * columns
        for library, call in calls.items():
            rates[f"{library} {rows}×{inner}×{columns}"] = operations / _best(call, seconds) / 1e9
    return rates


def _best(call: Callable[[], object], seconds: float) -> float:
    """The shortest of the calls that fit into so many seconds: the limit is what the machine can, undisturbed."""
    call()
    began = time.perf_counter()
    best = float("inf")
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    """Answer questions until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limit")
    parser.add_argument("--threads", type=int, required=True)
    torch.set_num_threads(parser.parse_args().threads)

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        return {"gflops": measure(question["seconds"], question["hidden"], question["intermediate"])}

    with torch.inference_mode():
        serve(answer)


if __name__ == "__main__":
    main()
