"""Another model, and back, under load: no request fails, no answer mixes models, and a bad one changes nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from export import manifest as manifests
from tests.faults.conftest import wait_until_calm
from tests.faults.load import MAX_LENGTH, Known, Load
from tests.faults.repositories import SHIFT, shifted, truncated, unloadable
from tests.faults.service import processes
from tests.support.service import ROOT, Service, serving

pytestmark = [pytest.mark.triton, pytest.mark.slow]

FORMER, NEW = 0, 1


@pytest.fixture(scope="module")
def new_repository(model_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shifted(model_repository, tmp_path_factory.mktemp("new") / "repository")


@pytest.fixture(scope="module")
def two_models(known: Known) -> Known:
    return Known(known.texts, [known.models[0], known.models[0] + np.float32(SHIFT)])


@pytest.fixture(scope="module")
def service(model_repository: Path) -> Iterator[Service]:
    with serving(model_repository) as running:
        yield running


@pytest.fixture(scope="module")
def load(service: Service, two_models: Known) -> Iterator[Load]:
    with Load(service.rest_url, service.grpc_url, two_models) as running:
        running.settle()
        yield running
    assert [answer for answer in running.answers if answer.outcome == "wrong"] == []


def update(service: Service, repository: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "server.update", "--http-port", str(service.http_port), str(repository)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def served(service: Service) -> str:
    digest: str = httpx.get(f"{service.rest_url}/info").json()["digest"]
    return digest


def digest_of(repository: Path) -> str:
    return manifests.read(repository / "bert" / "1" / "manifest.json").digest


class Giant(threading.Thread):
    """Requests of many pieces, one after the other, each of which must be of one model; with its digest, too."""

    def __init__(self, service: Service, known: Known, digests: list[str]) -> None:
        super().__init__()
        self.models: list[int | None] = []
        self._url = f"{service.rest_url}/embedding"
        self._known = known
        self._digests = digests
        self._over = threading.Event()

    def run(self) -> None:
        places = list(range(len(self._known.texts))) * 3
        body = {"texts": [self._known.texts[place] for place in places], "max_length": MAX_LENGTH}
        while not self._over.is_set():
            answer = httpx.post(self._url, json=body, timeout=60)
            vectors = np.array(answer.json().get("embeddings", []), np.float32)
            model = self._known.model_of(places, vectors)
            told = model is not None and self._digests[model] == answer.headers["x-model-digest"]
            self.models.append(model if told else None)

    def finish(self) -> None:
        self._over.set()
        self.join()


def test_there_and_back(
    service: Service,
    load: Load,
    two_models: Known,
    model_repository: Path,
    new_repository: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    digests = [digest_of(model_repository), digest_of(new_repository)]
    giant = Giant(service, two_models, digests)
    giant.start()
    began = time.monotonic()
    for repository, model in ((new_repository, NEW), (model_repository, FORMER)):
        done = update(service, repository)
        assert done.returncode == 0, done.stderr + service.log.read_text()
        finished = time.monotonic()
        assert served(service) == digests[model]
        wait_until_calm(load, finished, 60)
        late = [answer for answer in list(load.answers) if answer.began_s > finished and answer.outcome == "ok"]
        assert {(answer.way, answer.model) for answer in late} == {("rest", model), ("grpc", model)}
        # Prometheus finds Triton where it always was.
        assert "nv_inference_request_success" in httpx.get(f"{service.metrics_url}/metrics").text
    giant.finish()
    assert None not in giant.models
    assert set(giant.models) == {FORMER, NEW}
    during = [answer for answer in load.answers if answer.ended_s > began]
    assert [answer for answer in during if answer.way == "rest" and answer.outcome != "ok"] == []
    # Who speaks to Triton itself has a connection to the former one, and loses it.
    lost = [answer.outcome for answer in during if answer.way == "grpc" and answer.outcome != "ok"]
    assert set(lost) <= {"Unavailable"}
    with capsys.disabled():
        slowest = max(answer.took_s for answer in during if answer.way == "rest")
        print(  # noqa: T201
            f"\nupdate and back: {time.monotonic() - began:.0f} s, {len(during)} requests; rest: none failed, slowest "
            f"{slowest:.1f} s; grpc: {len(lost)} failed",
            end="",
        )


def test_a_bad_one_changes_nothing(
    service: Service, load: Load, tmp_path: Path, model_repository: Path, new_repository: Path
) -> None:
    before = served(service)
    triton = processes(service.pid)["triton"].pid
    for repository, reason in (
        (truncated(model_repository, tmp_path / "truncated"), "bert/1/model.onnx has sha256"),
        (unloadable(new_repository, tmp_path / "unloadable"), "execution_mode: wanted 0 (sequential) or 1 (parallel)"),
        (tmp_path / "nowhere", "does not exist"),
    ):
        began = time.monotonic()
        done = update(service, repository)
        assert done.returncode == 1
        assert "the former model goes on" in done.stderr
        assert reason in done.stderr
        assert served(service) == before
        assert processes(service.pid)["triton"].pid == triton
        assert [answer for answer in list(load.answers) if answer.ended_s > began and answer.outcome != "ok"] == []


def test_no_server() -> None:
    command = [sys.executable, "-m", "server.update", "--http-port", "1", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "no server listens on" in done.stderr


@pytest.mark.slow
def test_what_was_updated_to_is_what_heals(service: Service, load: Load, new_repository: Path) -> None:
    assert update(service, new_repository).returncode == 0
    began = time.monotonic()
    processes(service.pid)["triton"].kill()
    wait_until_calm(load, began, 60)
    assert served(service) == digest_of(new_repository)
    assert "nv_inference_request_success" in httpx.get(f"{service.metrics_url}/metrics").text
    # The metrics port is Triton's own again, and can be handed over once more.
    assert update(service, new_repository).returncode == 0
    assert "nv_inference_request_success" in httpx.get(f"{service.metrics_url}/metrics").text


@pytest.mark.slow
def test_triton_dies_during_an_update(service: Service, load: Load, new_repository: Path) -> None:
    began = time.monotonic()
    updating = threading.Thread(target=update, args=(service, new_repository))
    updating.start()
    time.sleep(1.0)
    processes(service.pid)["triton"].kill()
    updating.join()
    wait_until_calm(load, began, 60)
    names = [child.name() for child in psutil.Process(service.pid).children() if child.status() != psutil.STATUS_ZOMBIE]
    assert sorted(names) == ["python", "tritonserver"]
