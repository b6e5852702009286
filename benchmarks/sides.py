"""What is measured side by side: the reference service, this service over REST and gRPC, and other servers by URL.

All are started once and stay up, so that rounds can alternate; only the one whose turn it is gets requests.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.errors import BenchmarkError
from benchmarks.processes import free_ports, running
from benchmarks.shapes import SHAPES

__all__ = ["GRPC", "REFERENCE", "REST", "Service", "Side", "parse_other", "reference_service", "service", "started"]

REFERENCE, REST, GRPC = "reference", "REST", "gRPC"
_HOST = "127.0.0.1"
_OTHER = re.compile(r"(?P<name>[^=]+)=(?P<url>https?://.+?):(?P<shape>[a-z]+)(,model=(?P<model>.+))?")


@dataclass(frozen=True)
class Side:
    """A server. `pid` is None for one that we did not start; `triton_url` is where Triton's statistics are."""

    name: str
    url: str
    shape: str
    model: str = "default"
    pid: int | None = None
    triton_url: str | None = None

    @property
    def takes_max_length(self) -> bool:
        """Whether a request can say where texts are cut."""
        return self.shape == "grpc" or SHAPES[self.shape].takes_max_length


def parse_other(text: str) -> Side:
    """`NAME=URL:SHAPE[,model=MODEL]`, for instance `TEI=http://127.0.0.1:3000:tei`.

    Raises:
        ValueError: it is not of that form, or there is no such shape.
    """
    found = _OTHER.fullmatch(text)
    if found is None:
        raise ValueError(f"wanted NAME=URL:SHAPE, for instance TEI=http://127.0.0.1:3000:tei, got {text!r}")
    if found["shape"] not in SHAPES:
        raise ValueError(f"shape: wanted one of {', '.join(SHAPES)}, got {found['shape']!r}")
    if found["name"] in (REFERENCE, REST, GRPC):
        raise ValueError(f"name: {found['name']!r} is taken, choose another")
    url = found["url"].rstrip("/")
    # A bare host gets the path that its shape usually has.
    if url.count("/") == 2:
        url += SHAPES[found["shape"]].path
    return Side(found["name"], url, found["shape"], found["model"] or "default")


@dataclass(frozen=True)
class Service:
    """This service, running. `rest_port` has no listener when it was started with --no-rest."""

    pid: int
    rest_port: int
    http_address: str  # HOST:PORT
    grpc_address: str

    def rest(self, name: str = REST) -> Side:
        """Its REST interface."""
        url = f"http://{_HOST}:{self.rest_port}/embedding"
        return Side(name, url, "embedding", pid=self.pid, triton_url=f"http://{self.http_address}")

    def grpc(self) -> Side:
        """Its gRPC interface."""
        url = f"grpc://{self.grpc_address}"
        return Side(GRPC, url, "grpc", pid=self.pid, triton_url=f"http://{self.http_address}")


@contextlib.contextmanager
def service(repository: Path, *arguments: str) -> Iterator[Service]:
    """Start this service on free ports; `arguments` go to `python -m server`.

    Raises:
        BenchmarkError: it did not start.
    """
    rest, http, grpc, metrics = free_ports(4)
    command = [sys.executable, "-m", "server", "--model-repository", str(repository), "--rest-port", str(rest)]
    command += ["--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics), *arguments]
    # What is set for another service on this machine is not meant for this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EMBEDDING_")}
    with running("this service", command, lambda log: "\nready: " in log, environment) as pid:
        yield Service(pid, rest, f"{_HOST}:{http}", f"{_HOST}:{grpc}")


@contextlib.contextmanager
def reference_service(model_folder: Path) -> Iterator[Side]:
    """Start the reference service on a free port."""
    [port] = free_ports(1)
    command = [sys.executable, "-m", "benchmarks.reference_service", "--model", str(model_folder), "--port", str(port)]

    def is_ready(_: str) -> bool:
        try:
            return httpx.get(f"http://{_HOST}:{port}/health", trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    with running("the reference service", command, is_ready) as pid:
        yield Side(REFERENCE, f"http://{_HOST}:{port}/embedding", "embedding", pid=pid)


@contextlib.contextmanager
def started(model_folder: Path, repository: Path, others: Sequence[Side]) -> Iterator[list[Side]]:
    """Start the reference service and this service, beside the others."""
    with reference_service(model_folder) as reference, service(repository) as ours:
        sides = [reference, ours.rest(), ours.grpc(), *others]
        if len({side.name for side in sides}) < len(sides):
            raise BenchmarkError(f"wanted different names, got {', '.join(side.name for side in sides)}")
        yield sides
