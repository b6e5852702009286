"""`python -m tests.faults.soak MINUTES`: traffic and random faults for so long, every vector checked.

a service of its own  ->  Load (REST and gRPC), the other interfaces  ->  random faults, each healed  ->  a report

Exits with 1 for a wrong vector, a fault that did not heal, or memory that grew by 5 % or more after the warm-up.
Memory is that of all processes, each time after the same work: what a fault has just made new would pass for something
that shrank, or grew. So this sees leaks of the supervisor first, and of the others as far as they live. ONNX Runtime
runs without its arena, and glibc gives large blocks back: what both keep is the largest batch since the start, whose
size is luck, up to a tenth of the sum.
"""

from __future__ import annotations

import collections
import contextlib
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.repositories import with_parameters
from client import EmbeddingClient
from tests.faults.faults import FAULTS
from tests.faults.load import MAX_LENGTH, Known, Load
from tests.faults.record import is_calm
from tests.support.service import Service, exported_repository, serving

_MOST_GROWTH = 0.05
_HEALED_S = 60.0
_PAUSE_S = (4.0, 12.0)
_WORK_S = 15.0
_WORKERS = 8
# A threshold that is set does not grow up to 32 MB by itself (mallopt(3)): what is larger goes back when it is freed.
_FRUGAL = {"MALLOC_MMAP_THRESHOLD_": str(128 * 1024)}
_TEXTS = [f"a text of the soak, number {number}, " + "with some more words " * (number % 12) for number in range(64)]


@dataclass
class Others:
    """The interfaces that Load does not ask: their vectors have length 1 and are cut at the model's own limit."""

    service: Service
    known: NDArray[np.float32]
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _run(self, stop: threading.Event) -> None:
        chance = random.Random(1)
        with httpx.Client(timeout=60) as http:
            while not stop.wait(0.05):
                path = chance.choice(["/v1/embeddings", "/embed", "/tokenize"])
                place = chance.randrange(len(_TEXTS))
                name = "input" if path.startswith("/v1/") else "inputs"
                try:
                    answer = http.post(self.service.rest_url + path, json={name: [_TEXTS[place]]})
                except httpx.TransportError as error:
                    self.outcomes[f"{path} {type(error).__name__}"] += 1
                    continue
                self.outcomes[f"{path} {self._outcome(path, answer, place)}"] += 1

    def _outcome(self, path: str, answer: httpx.Response, place: int) -> str:
        if answer.status_code != 200:
            return str(answer.status_code)
        if path == "/tokenize":
            return "ok" if answer.json()[0][0]["text"] == "[CLS]" else "wrong"
        vector = answer.json()["data"][0]["embedding"] if path.startswith("/v1/") else answer.json()[0]
        return "ok" if np.allclose(vector, self.known[place], rtol=0, atol=1e-5) else "wrong"


def main(arguments: Sequence[str]) -> int:
    """Run; the exit code."""
    minutes = float(arguments[0]) if arguments else 2.0
    repository = exported_repository("sentence-transformers/all-MiniLM-L6-v2", "default")
    with (
        with_parameters(repository, "bert", {"enable_mem_arena": "0"}) as without_arena,
        serving(without_arena, "--max-restarts", "1000", variables=_FRUGAL) as service,
    ):
        return _soak(service, 60 * minutes)


def _soak(service: Service, seconds: float) -> int:
    # Open until the end: gRPC complains when one of two event loops of a process closes, and Load has the other.
    with EmbeddingClient(service.http_url) as client:
        # By the same service before any fault, through the other interface of Triton; tests/e2e/test_vectors.py
        # compares it with transformers.
        raw, unit = client.embed(_TEXTS, MAX_LENGTH), client.embed(_TEXTS, normalize=True)
        return _report(*_under_faults(service, seconds, Known(_TEXTS, [raw]), Others(service, unit)))


def _under_faults(
    service: Service, seconds: float, known: Known, others: Others
) -> tuple[collections.Counter[str], list[tuple[str, float | None]], int, int]:
    recoveries: list[tuple[str, float | None]] = []
    outcomes: collections.Counter[str] = collections.Counter()
    memory: list[int] = []
    for part in (seconds / 4, 3 * seconds / 4):
        with Load(service.rest_url, service.grpc_url, known) as load, others.running():
            load.settle()
            _faults(service, load, part, recoveries)
        outcomes.update(f"{each.way} {each.outcome}" for each in load.answers)
        # When nothing runs: a batch under way has tens of megabytes of its own.
        memory.append(_memory_bytes(service))
    return outcomes + others.outcomes, recoveries, memory[0], memory[1]


def _faults(service: Service, load: Load, seconds: float, recoveries: list[tuple[str, float | None]]) -> None:
    """Faults for so long; all is well at the end."""
    end = time.monotonic() + seconds
    while True:
        time.sleep(random.uniform(*_PAUSE_S))
        if time.monotonic() >= end:
            return
        fault = random.choice(list(FAULTS))
        began = time.monotonic()
        with FAULTS[fault](service.pid):
            while not (calm := is_calm(load, began)) and time.monotonic() - began < _HEALED_S:
                time.sleep(0.1)
        recoveries.append((fault, time.monotonic() - began if calm else None))


def _memory_bytes(service: Service) -> int:
    """Of the supervisor and all that it started, after work that brings each to its size: what is theirs alone."""
    end = time.monotonic() + _WORK_S

    def work(seed: int) -> None:
        chance = random.Random(seed)
        with EmbeddingClient(service.grpc_url if seed % 2 else f"rest+{service.rest_url}") as client:
            while time.monotonic() < end:
                client.embed(chance.choices(_TEXTS, k=chance.randint(1, 64)), MAX_LENGTH)

    with ThreadPoolExecutor(_WORKERS) as pool:
        list(pool.map(work, range(_WORKERS)))
    supervisor = psutil.Process(service.pid)
    return sum(process.memory_full_info().uss for process in [supervisor, *supervisor.children(recursive=True)])


def _report(
    outcomes: collections.Counter[str], recoveries: list[tuple[str, float | None]], before: int, after: int
) -> int:
    wrong = sum(count for name, count in outcomes.items() if name.endswith(" wrong"))
    unhealed = [fault for fault, took in recoveries if took is None]
    growth = after / before - 1
    lines = [f"{sum(outcomes.values())} requests: " + ", ".join(f"{n} {name}" for name, n in sorted(outcomes.items()))]
    lines += [f"{fault}: " + (f"well after {took:.1f} s" if took else "not healed") for fault, took in recoveries]
    lines += [f"wrong vectors: {wrong}", f"faults: {len(recoveries)}, not healed: {len(unhealed)}"]
    lines += [f"memory after the warm-up: {before / 1e6:.0f} MB, at the end: {after / 1e6:.0f} MB ({growth:+.1%})"]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(bool(wrong or unhealed or growth >= _MOST_GROWTH))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
