"""A bulk run through every kill and every hang: it ends by itself, with every row, and every row right."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from tests.faults.faults import FAULTS
from tests.faults.load import MAX_LENGTH, TOLERANCE, Known
from tests.support.service import ROOT, Service, serving

pytestmark = [pytest.mark.triton, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def service(model_repository: Path) -> Iterator[Service]:
    with serving(model_repository, "--max-restarts", "1000") as running:
        yield running


class Feeder(threading.Thread):
    """Writes rows into a run's standard input, as fast as it takes them, until it is told that it is enough."""

    def __init__(self, stream: IO[bytes], known: Known) -> None:
        super().__init__()
        self.rows = 0
        self.enough = threading.Event()
        self._stream = stream
        self._known = known

    def run(self) -> None:
        for text in itertools.cycle(self._known.texts):
            if self.enough.is_set() and self.rows % len(self._known.texts) == 0:
                break
            self._stream.write(text.encode() + b"\n")
            self.rows += 1
        self._stream.close()


def healed(service: Service, restarts: int) -> bool:
    log = service.log.read_text()
    _, _, since = log.rpartition("starting it anew")
    return log.count("starting it anew") > restarts and " is ready after " in since


@pytest.mark.parametrize("way", ["grpc", "rest"])
def test_no_row_is_lost(
    tmp_path: Path, service: Service, known: Known, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "vectors.npy"
    url = service.grpc_url if way == "grpc" else f"rest+{service.rest_url}"
    command = [sys.executable, "-m", "client", "embed", "--url", url, "--input", "-", "--output", str(output)]
    command += ["--max-length", str(MAX_LENGTH)]
    began = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdin is not None
        assert run.stderr is not None
        feeder = Feeder(run.stdin, known)
        feeder.start()
        try:
            for fault, inject in FAULTS.items():
                restarts = service.log.read_text().count("starting it anew")
                time.sleep(1)
                with inject(service.pid):
                    hurt = time.monotonic()
                    while not healed(service, restarts):
                        assert time.monotonic() - hurt < 90, f"{fault}\n{service.log.read_text()}"
                        time.sleep(0.1)
        finally:
            feeder.enough.set()
            feeder.join()
        assert run.wait(120) == 0, run.stderr.read().decode()
    vectors = np.load(output)
    wanted = np.tile(known.models[0], (feeder.rows // len(known.texts), 1))
    assert vectors.shape == wanted.shape
    assert np.abs(vectors - wanted).max() < TOLERANCE
    with capsys.disabled():
        took = time.monotonic() - began
        print(f"\nbulk over {way}: {len(FAULTS)} faults in {took:.0f} s, {feeder.rows} rows, none lost", end="")  # noqa: T201
