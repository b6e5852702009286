"""The real service under load, a step of it killed, and a real Prometheus that watches: for tests and the picture."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.prometheus import Prometheus, node_exporter, running, wait_for
from tests.support.service import Service, serving
from tests.support.triton import infer

RESTARTS = 'sum(resets(nv_inference_request_success{model="tokenizer"}[10m]))'
# Grafana's is at least four scrapes. Ours come every second, or later on a busy machine.
_RATE_INTERVAL = "15s"


@dataclass(frozen=True)
class Watched:
    """What Prometheus has seen, from when to when."""

    prometheus: Prometheus
    began: float
    ended: float

    def series(self, expression: str) -> list[list[float]]:
        """The values alone."""
        return [[value for _, value in points] for _, points in self.lines(expression)]

    def lines(self, expression: str) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """The labels and the points of each line that Grafana would draw; what is no number left out."""
        expression = expression.replace("$__rate_interval", _RATE_INTERVAL).replace("$namespace", ".*")
        data = self.prometheus.get("query_range", query=expression, start=self.began, end=self.ended, step=1)
        return [
            (line["metric"], points)
            for line in data["result"]
            if (points := [(time, float(value)) for time, value in line["values"] if value != "NaN"])
        ]


@contextlib.contextmanager
def watch(model_repository: Path, texts: list[str], directory: Path, load_s: float = 20.0) -> Iterator[Watched]:
    """Run it all, and keep Prometheus for questions until the block ends."""
    cache = {"EMBEDDING_REST_CACHE_BYTES": "64MiB"}
    with serving(model_repository, variables=cache) as service, node_exporter(directory) as node:
        targets = {
            "embedding-rest": [f"127.0.0.1:{service.rest_port}"],
            "embedding-triton": [f"127.0.0.1:{service.metrics_port}"],
            "node": [node],
        }
        with running(directory, targets) as prometheus:
            wait_for(lambda: all(prometheus.up().values()), 30, prometheus.up)
            began = time.time()
            with load(service, texts):
                time.sleep(load_s)
                kill_bert(service)
                # Triton is back, and its counters began anew.
                wait_for(lambda: any(float(sample["value"][1]) for sample in prometheus.query(RESTARTS)), 120)
                time.sleep(load_s / 4)
            yield Watched(prometheus, began, time.time())


def load(service: Service, texts: list[str]) -> Any:
    """Users of all kinds until the block ends: of the shim and of Triton itself, good and bad requests, and probes."""
    return _Load(
        *[_asks(f"{service.rest_url}/embedding", {"texts": texts[n : n + 4]}) for n in range(4)],
        _asks_anew(f"{service.rest_url}/embedding", texts[:64]),
        _asks(f"{service.rest_url}/embedding", {"texts": "no list"}, pause_s=0.2),
        _asks(f"{service.http_url}/v2/models/embedding/infer", infer(texts[0])),
        _asks(f"{service.http_url}/v2/models/embedding/infer", infer(texts[0], 100_000), pause_s=0.2),
        lambda http: http.get(f"{service.rest_url}/health/ready"),
    )


class _Load:
    def __init__(self, *users: Callable[[httpx.Client], object]) -> None:
        self._users = users
        self._end = threading.Event()
        self._pool = ThreadPoolExecutor(len(users))

    def __enter__(self) -> None:
        self._running = [self._pool.submit(self._run, user) for user in self._users]

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._pool.shutdown()
        for each in self._running:
            each.result()

    def _run(self, user: Callable[[httpx.Client], object]) -> None:
        with httpx.Client(timeout=60.0, trust_env=False) as http:
            while not self._end.is_set():
                try:
                    user(http)
                except httpx.TransportError:  # while Triton is away
                    time.sleep(0.1)


def _asks(url: str, body: dict[str, Any], pause_s: float = 0.0) -> Callable[[httpx.Client], object]:
    def ask(http: httpx.Client) -> None:
        http.post(url, json=body)
        time.sleep(pause_s)

    return ask


def _asks_anew(url: str, texts: list[str]) -> Callable[[httpx.Client], object]:
    """With texts that no cache knows."""
    numbers = itertools.count()

    def ask(http: httpx.Client) -> None:
        number = next(numbers)
        http.post(url, json={"texts": [f"{number} {text}" for text in texts]})

    return ask


def bert_of(service: Service) -> psutil.Process | None:
    """The process of the step `bert`."""
    for child in psutil.Process(service.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            program, *arguments = child.cmdline() or [""]
            # Its first argument is the model's file.
            if program.endswith("triton_python_backend_stub") and "/bert/" in arguments[0]:
                return child
    return None


def kill_bert(service: Service) -> None:
    process = bert_of(service)
    assert process is not None
    process.kill()
    process.wait(10)
