"""What an answer's form costs: `python -m benchmarks.answers [--url URL]`, beside a running service.

The same request of 32 short texts, so that the model takes little of the time, answered as JSON, as raw float32 and as
an .npy file in turn; medians of its bytes, of the time until it is there, and of the time to make an array of it.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from benchmarks.errors import BenchmarkError

__all__ = ["main"]

_TEXTS = 32

Read = Callable[[bytes, Mapping[str, str]], NDArray[np.float32]]


def _json(content: bytes, headers: Mapping[str, str]) -> NDArray[np.float32]:
    return np.array(json.loads(content)["embeddings"], np.float32)


def _raw(content: bytes, headers: Mapping[str, str]) -> NDArray[np.float32]:
    rows, columns = map(int, headers["x-shape"].split(","))
    return np.frombuffer(content, "<f4").reshape(rows, columns)


def _npy(content: bytes, headers: Mapping[str, str]) -> NDArray[np.float32]:
    return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))


_FORMS: dict[str, Read] = {"application/json": _json, "application/octet-stream": _raw, "application/x-npy": _npy}


@dataclass
class Times:
    """Of one form, in milliseconds, one for each round."""

    bytes: int = 0
    answer_ms: list[float] = field(default_factory=list)
    read_ms: list[float] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write a table to standard output."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.answers", description="What an answer's form costs.")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the REST shim (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=200, help="requests in each form (default: %(default)s)")
    given = parser.parse_args(arguments)
    sys.stdout.write("| form | bytes | until it is there | array of it |\n|---|---|---|---|\n")
    for form, times in _measure(given.url, given.rounds).items():
        answer, read = statistics.median(times.answer_ms), statistics.median(times.read_ms)
        sys.stdout.write(f"| {form} | {times.bytes:,} | {answer:.2f} ms | {read:.3f} ms |\n")
    return 0


def _measure(url: str, rounds: int) -> dict[str, Times]:
    body = json.dumps({"texts": ["word"] * _TEXTS})
    found = {form: Times() for form in _FORMS}
    with contextlib.closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)) as connection:
        for form, read in [*_FORMS.items()] * rounds:
            began = time.perf_counter()
            connection.request("POST", "/embedding", body, {"Content-Type": "application/json", "Accept": form})
            response = connection.getresponse()
            content, headers = response.read(), response.getheaders()
            there = time.perf_counter()
            if response.status != 200:
                raise BenchmarkError(f"{url}: wanted status 200, got {response.status}")
            vectors = read(content, {name.lower(): value for name, value in headers})
            done = time.perf_counter()
            if len(vectors) != _TEXTS:
                raise BenchmarkError(f"{url}: wanted {_TEXTS} vectors, got {len(vectors)}")
            found[form].bytes = len(content)
            found[form].answer_ms.append(1000 * (there - began))
            found[form].read_ms.append(1000 * (done - there))
    return found


if __name__ == "__main__":
    sys.exit(main())
