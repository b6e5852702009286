"""A measuring process that waits idle for its turn: one line of JSON in, one line of JSON out.

Load generator, bare ONNX Runtime and matrix products each run in a process of their own, so that they share neither
threads nor memory nor Python's lock with what is measured or with the one that keeps the books.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from benchmarks.errors import BenchmarkError
from server.settings import ROOT

__all__ = ["Worker", "serve"]


class Worker:
    """A process `python -m MODULE ARGUMENTS` that answers questions."""

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.name = module.rpartition(".")[2]
        command = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(environment or os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def ask(self, **question: Any) -> dict[str, Any]:
        """Send a question and wait for the answer.

        Raises:
            BenchmarkError: the process says why it cannot answer, or has died.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise BenchmarkError(f"{self.name}: its pipes are closed")
        try:
            stdin.write(json.dumps(question) + "\n")
            stdin.flush()
        except BrokenPipeError as error:
            raise BenchmarkError(f"{self.name} is dead, exit code {self._process.wait()}") from error
        line = stdout.readline()
        if not line:
            raise BenchmarkError(f"{self.name} died, exit code {self._process.wait()}; see above")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchmarkError(f"{self.name}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer standard input's questions until it ends: the other side of `Worker`."""
    for line in sys.stdin:
        try:
            result = answer(json.loads(line))
        except BenchmarkError as error:
            result = {"error": str(error)}
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
