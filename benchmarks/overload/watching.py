"""What an orchestrator sees meanwhile: probes that fail, processes that are replaced, memory that grows."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import httpx
import psutil

from benchmarks.processes import usage

__all__ = ["Watching"]

_EVERY_S = 1.0
# Kubernetes gives a probe one second unless told otherwise, but readiness here embeds a text in its turn.
_TIMEOUT_S = 5.0
PATHS = ("/health/live", "/health/ready")


class Watching:
    """Asks both probes each second and looks at the service's processes, in a thread, until the block ends.

    Attributes:
        asked: probes.
        failures: what went wrong with some, in words.
        slowest_ms: the slowest that passed, by path.
        memory: the most resident bytes of each process, and of all together at one time under "all".
    """

    def __init__(self, pid: int, rest_url: str) -> None:
        self._pid = pid
        self._url = rest_url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._processes = _processes(pid)
        self.asked = 0
        self.failures: list[str] = []
        self.slowest_ms = dict.fromkeys(PATHS, 0.0)
        self.memory: dict[str, int] = {}
        self.replaced = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        # Those who were there and are not any more; new ones replace them.
        self.replaced = len(self._processes - _processes(self._pid))

    def _run(self) -> None:
        with httpx.Client(trust_env=False, timeout=_TIMEOUT_S) as http:
            while not self._stop.wait(_EVERY_S):
                for path in PATHS:
                    self._probe(http, path)
                self._look()

    def _probe(self, http: httpx.Client, path: str) -> None:
        self.asked += 1
        began = time.monotonic()
        try:
            answer = http.get(self._url + path)
        except httpx.HTTPError as error:
            self.failures.append(f"{path}: {type(error).__name__}")
            return
        self.slowest_ms[path] = max(self.slowest_ms[path], 1000 * (time.monotonic() - began))
        if answer.status_code != httpx.codes.OK:
            self.failures.append(f"{path}: status {answer.status_code}")

    def _look(self) -> None:
        now = {name: each.rss for name, each in usage(self._pid).items()}
        for name, rss in {**now, "all": sum(now.values())}.items():
            self.memory[name] = max(self.memory.get(name, 0), rss)


def _processes(pid: int) -> set[tuple[int, float]]:
    """The service's processes, so that a number that was used again does not hide a new one."""
    root = psutil.Process(pid)
    return {(each.pid, each.create_time()) for each in [root, *root.children(recursive=True)]}
