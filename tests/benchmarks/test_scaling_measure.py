"""What is measured for the model: requests that come at their moments, and loops that nobody disturbed."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.scaling import measure
from benchmarks.scaling.measure import open_loop, quietest
from benchmarks.scaling.traffic import Arrivals, Pool, consecutive, draw
from tests.support.service import Service


@pytest.mark.slow
@pytest.mark.triton
def test_an_open_loop_on_the_real_service(service: Service, real_texts: list[str]) -> None:
    requests = consecutive([10] * len(real_texts), {1: 0.5, 4: 0.5}, 8)
    arrivals = draw(requests, 20.0, 0.0, 3.0, np.random.default_rng(0))
    latencies = open_loop(f"{service.rest_url}/embedding", real_texts, requests, arrivals)
    assert len(latencies) == len(arrivals.at) > 10
    assert min(latencies) > 0


@pytest.mark.slow
@pytest.mark.triton
def test_requests_do_not_wait_for_answers(service: Service, real_texts: list[str]) -> None:
    """Thirty at one moment: the last one's answer waits for the others', and its time counts from that moment."""
    requests = consecutive([10] * len(real_texts), {8: 1.0}, 4)
    at_once = Arrivals([0.5] * 30, [8] * 30, [80] * 30, [0, 1, 2, 3] * 7 + [0, 1])
    latencies = open_loop(f"{service.rest_url}/embedding", real_texts, requests, at_once)
    assert max(latencies) > 3 * min(latencies)


@pytest.mark.triton
def test_a_wrong_answer_ends_it(service: Service, real_texts: list[str]) -> None:
    requests = consecutive([10] * len(real_texts), {1: 1.0}, 1)
    twice = Pool(requests.texts * 2, requests.tokens)
    with pytest.raises(BenchmarkError, match="wanted status 200 and 2 vectors, got status 404"):
        open_loop(f"{service.rest_url}/nowhere", real_texts, twice, Arrivals([0.0], [2], [20], [0]))


@pytest.mark.parametrize(
    ("busy", "tries", "kept"),
    [([0.0], 1, 0), ([0.5, 0.0], 2, 1), ([0.5, 0.2, 0.3], 3, 1)],
)
def test_the_quietest_try_counts(monkeypatch: pytest.MonkeyPatch, busy: list[float], tries: int, kept: int) -> None:
    """Others use so many processors during each try, by a clock on which a try takes a second."""
    ends = np.cumsum(busy).tolist()
    # It asks before and after each try.
    answers = iter(
        [
            (index + after, (ends[index] if after else ends[index] - busy[index]))
            for index in range(len(busy))
            for after in (0, 1)
        ]
    )
    monkeypatch.setattr(measure, "_processor_seconds", lambda: next(answers))
    number = itertools.count()
    found, others = quietest(lambda: next(number))
    assert (found, next(number)) == (kept, tries)
    assert others == pytest.approx(busy[kept])


def test_what_a_child_takes_is_ours() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import time\nwhile time.process_time() < 1: pass\ninput()"], stdin=subprocess.PIPE
    ) as child:
        process = psutil.Process(child.pid)
        while sum(process.cpu_times()[:2]) < 0.95:
            time.sleep(0.05)
        with_child_s = measure._processor_seconds()[1]
        child.communicate(b"\n")
    # Its second shows as others' as soon as it is gone.
    assert measure._processor_seconds()[1] - with_child_s > 0.5
