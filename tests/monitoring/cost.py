"""What a line in Triton's log for each call costs: processor time per request with and without, in alternating turns.

    python -m tests.monitoring.cost

Processor time and not the clock's, because that of a shared machine says little.
"""

from __future__ import annotations

import pydoc_data.topics
import sys
from itertools import islice

import psutil

from client import EmbeddingClient
from tests.support.service import exported_repository, serving

_REQUESTS = 400
_TURNS = 3


def processor_s(pid: int) -> float:
    """Seconds that the service has computed so far, `bert` left out: what it does is the same in both."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    times = [process.cpu_times() for process in processes if "/bert/" not in " ".join(process.cmdline())]
    return sum(time.user + time.system for time in times)


def main() -> None:
    """Print a line for each turn."""
    topics = pydoc_data.topics.topics
    paragraphs = (" ".join(part.split())[:60] for name in sorted(topics) for part in topics[name].split("\n\n"))
    texts = list(islice(filter(None, paragraphs), _REQUESTS))
    repository = exported_repository("sentence-transformers/all-MiniLM-L6-v2", "default")
    for turn in range(_TURNS):
        for what in ("warnings", "calls") if turn % 2 == 0 else ("calls", "warnings"):
            with (
                serving(repository, "--no-rest", "--triton-log", what) as service,
                EmbeddingClient(service.grpc_url) as client,
            ):
                client.embed(texts[:4])
                before = processor_s(service.pid)
                for text in texts:
                    client.embed([text])
                spent = processor_s(service.pid) - before
            sys.stdout.write(f"--triton-log {what}: {1000 * spent / len(texts):.2f} ms for each request\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
