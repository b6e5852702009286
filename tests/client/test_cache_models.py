"""Never a vector of another model: Triton comes back with another one under a shim that runs on, keeps and answers."""

from __future__ import annotations

import itertools
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import torch
from transformers import BertConfig, BertModel

from client import EmbeddingClient
from client.rest import Settings, create_app
from tests.support.service import ROOT, exported_repository, free_ports, serving
from tests.support.shim import running

pytestmark = [pytest.mark.triton, pytest.mark.timeout(600), pytest.mark.slow]

KNOWN = [f"a text that is asked for again and again, number {number}" for number in range(40)]
CLIENTS = 6


@pytest.fixture(scope="module")
def other_repository(default_model_folder: Path) -> Path:
    """A model of the default model's dimensions, so that only the numbers tell whose a vector is."""
    folder = ROOT / ".cache" / "tests" / "one-layer-384-seed-0"
    if not (folder / "model.safetensors").is_file():
        torch.manual_seed(0)
        config = BertConfig(hidden_size=384, num_hidden_layers=1, num_attention_heads=6, intermediate_size=64)
        BertModel(config).save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
            shutil.copy(default_model_folder / name, folder / name)
    return exported_repository(folder, "one-layer")


@contextmanager
def triton(repository: Path, http_port: int, grpc_port: int, how: str = "stop") -> Iterator[None]:
    """Triton without a shim, on these ports; at the block's end it stops in order, or is killed."""
    ports = ("--http-port", str(http_port), "--grpc-port", str(grpc_port))
    with serving(repository, "--no-rest", *ports, killed=how == "kill") as service:
        yield
        if how == "kill":
            process = psutil.Process(service.pid)
            gone = [process, *process.children(recursive=True)]
            for each in gone:
                each.send_signal(signal.SIGKILL)
            psutil.wait_procs(gone, timeout=10)


@dataclass(frozen=True)
class Answer:
    """What one request got: its rows' model by the numbers, the model of the header, and how many were hits."""

    models: frozenset[str]
    header: str
    hits: int


class Judge:
    """Knows both models' vectors of all texts."""

    def __init__(self) -> None:
        self.vectors: dict[str, dict[str, np.ndarray]] = {}

    def learn(self, url: str, texts: list[str]) -> str:
        with EmbeddingClient(url) as client:
            digest = client.info(refresh=True).digest
            self.vectors[digest] = dict(zip(texts, client.embed(texts, 128), strict=True))
        return digest

    def model_of(self, text: str, vector: list[float]) -> str:
        whose = [digest for digest, known in self.vectors.items() if np.allclose(known[text], vector, atol=1e-5)]
        assert len(whose) == 1, f"a vector of {len(whose)} of the models"
        return whose[0]


def ask(url: str, texts: list[str], judge: Judge, answers: list[Answer], end: threading.Event) -> None:
    """Fill in one connection's answers, in order; away is away, and nothing else may fail."""
    random = np.random.default_rng(threading.get_ident())
    with httpx.Client(base_url=url, timeout=60) as http:
        while not end.is_set():
            asked = [texts[index] for index in random.choice(len(texts), size=random.integers(1, 12))]
            answer = http.post("/embedding", json={"texts": asked, "max_length": 128})
            if answer.status_code != 200:
                assert answer.status_code == 503, answer.text
                time.sleep(0.01)
                continue
            rows = answer.json()["embeddings"]
            models = frozenset(judge.model_of(text, row) for text, row in zip(asked, rows, strict=True))
            answers.append(Answer(models, answer.headers["x-model-digest"], int(answer.headers["x-cache-hits"])))


def wait_until_recalled(digest: str, connections: list[list[Answer]], asking: list[Future[None]]) -> None:
    """Until each connection got several answers of this model with hits; or one has failed."""
    deadline = time.monotonic() + 120
    while any(sum(a.header == digest and a.hits > 0 for a in answers) < 5 for answers in connections):
        assert time.monotonic() < deadline, [len(answers) for answers in connections]
        for failed in filter(Future.done, asking):
            failed.result()
        time.sleep(0.1)


@pytest.mark.parametrize("how", ["kill", pytest.param("stop", marks=pytest.mark.slow)])
def test_a_model_change_under_load(model_repository: Path, other_repository: Path, how: str) -> None:
    http_port, grpc_port = free_ports(2)
    grpc_url = f"grpc://127.0.0.1:{grpc_port}"
    judge, end = Judge(), threading.Event()
    connections: list[list[Answer]] = [[] for _ in range(CLIENTS)]
    settings = Settings(triton_url=grpc_url, cache_bytes=8 * 1024 * 1024)
    # Half of the connections ask for known texts only, and soon get hits only; the others for a mixture.
    texts = [*KNOWN, *(f"a text that comes rarely, number {number}" for number in range(120))]
    with triton(other_repository, http_port, grpc_port):
        second = judge.learn(grpc_url, texts)
    with running(create_app(settings)) as url, ThreadPoolExecutor(CLIENTS) as threads:
        try:
            with triton(model_repository, http_port, grpc_port, how):
                first = judge.learn(grpc_url, texts)
                asking = [
                    threads.submit(ask, url, texts if number % 2 else KNOWN, judge, answers, end)
                    for number, answers in enumerate(connections)
                ]
                wait_until_recalled(first, connections, asking)
            with triton(other_repository, http_port, grpc_port):
                wait_until_recalled(second, connections, asking)
                end.set()
                for each in asking:
                    each.result()
        finally:
            end.set()

    assert first != second
    for answers in connections:
        # No answer is of two models, and each says whose it is.
        assert all(answer.models == {answer.header} for answer in answers)
        # None of the first model's after one of the second's.
        assert [digest for digest, _ in itertools.groupby(answer.header for answer in answers)] == [first, second]


@pytest.mark.slow
def test_nothing_is_answered_while_no_model_is_served(model_repository: Path) -> None:
    http_port, grpc_port = free_ports(2)
    settings = Settings(triton_url=f"grpc://127.0.0.1:{grpc_port}", cache_bytes=8 * 1024 * 1024)
    with running(create_app(settings)) as url, httpx.Client(base_url=url, timeout=60) as http:
        with triton(model_repository, http_port, grpc_port):
            for hits in (0, 40):
                answer = http.post("/embedding", json={"texts": KNOWN})
                assert (answer.status_code, answer.headers["x-cache-hits"]) == (200, str(hits))
        assert http.post("/embedding", json={"texts": KNOWN}).status_code == 503
        with triton(model_repository, http_port, grpc_port):
            # The same model as before: what is known of it still is.
            deadline = time.monotonic() + 30
            while (answer := http.post("/embedding", json={"texts": KNOWN})).status_code == 503:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert (answer.status_code, answer.headers["x-cache-hits"]) == (200, "40")
