"""Starting, observing and stopping what is measured."""

from __future__ import annotations

import os
import sys

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.processes import running, usage
from benchmarks.worker import Worker


def test_a_server_that_ends_tells_why() -> None:
    command = [sys.executable, "-c", "raise SystemExit('no memory left')"]
    with (
        pytest.raises(BenchmarkError, match=r"(?s)a server ended with exit code 1 .*no memory left"),
        running("a server", command, lambda log: False),
    ):
        pass


def test_a_server_is_gone_afterwards() -> None:
    command = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"]
    with running("a server", command, lambda log: "ready" in log) as pid:
        assert next(iter(usage(pid).values())).rss > 1_000_000
    with pytest.raises(BenchmarkError, match="is gone"):
        usage(pid)


def test_own_processor_time_grows() -> None:
    before = sum(each.cpu_s for each in usage(os.getpid()).values())
    sum(number * number for number in range(3_000_000))
    assert sum(each.cpu_s for each in usage(os.getpid()).values()) > before


def test_a_worker_tells_its_failure() -> None:
    with Worker("benchmarks.load") as worker, pytest.raises(BenchmarkError, match=r"load: http://127\.0\.0\.1:1/:"):
        worker.ask(url="http://127.0.0.1:1/", shape="embedding", model="", requests=[["a"]], max_length=128)
