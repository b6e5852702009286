"""The server's settings: each declared once, flag over environment over default."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "TRITON_LOGS", "Settings", "control_socket", "parse"]

ROOT = Path(__file__).resolve().parent.parent
TRITON_LOGS = ("warnings", "calls", "all")


@dataclass(frozen=True)
class Settings:
    """What `python -m server` serves, and where."""

    model: str | None
    revision: str | None
    model_repository: Path
    host: str
    rest_port: int
    http_port: int
    grpc_port: int
    metrics_port: int
    rest: bool
    threads: int
    triton_log: str
    grpc_max_connection_age_s: float
    start_timeout_s: float
    stop_timeout_s: float
    hang_timeout_s: float
    stuck_timeout_s: float
    max_restarts: int
    control_socket: Path

    @property
    def probe_host(self) -> str:
        """The address by which this machine reaches its own service."""
        return "127.0.0.1" if self.host == "0.0.0.0" else self.host

    @property
    def ports(self) -> dict[str, int]:
        """The ports to listen on, by their flags' names."""
        ports = {"http-port": self.http_port, "grpc-port": self.grpc_port, "metrics-port": self.metrics_port}
        return {"rest-port": self.rest_port, **ports} if self.rest else ports


def parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """The command line. Each flag `--some-name` can be set by the environment variable EMBEDDING_SOME_NAME as well."""
    result = argparse.ArgumentParser(
        prog="scripts/serve",
        description="Serve embeddings: Triton and the REST shim, in the foreground until Ctrl-C or SIGTERM.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog="Each flag --some-name can also be set by the environment variable EMBEDDING_SOME_NAME.",
        allow_abbrev=False,
    )

    def add(flag: str, kind: type, default: object, help_text: str) -> None:
        variable = "EMBEDDING_" + flag.upper().replace("-", "_")
        # argparse runs `type` on a default that is a string, so a bad variable is refused as a bad flag is.
        result.add_argument(f"--{flag}", type=kind, default=environment.get(variable, default), help=help_text)

    add("model", str, None, "hub name or local folder to export and serve; none serves what is there, or the default")
    add("revision", str, None, "revision of a hub model")
    add("model-repository", Path, ROOT / "model_repository", "Triton's model repository")
    add("host", str, "127.0.0.1", "address that every port listens on")
    add("rest-port", int, 8080, "port of the REST shim")
    add("http-port", int, 8000, "port of Triton's HTTP server")
    add("grpc-port", int, 8001, "port of Triton's gRPC server")
    add("metrics-port", int, 8002, "port of Triton's Prometheus metrics")
    add("threads", int, 0, "processors to use; 0 means all that the affinity and the container's CPU limit allow")
    add(
        "triton-log",
        str,
        "warnings",
        "what of Triton's log to pass on: warnings (and errors), calls (a line for each request as well), or all",
    )
    add(
        "grpc-max-connection-age-s",
        float,
        0.0,
        "seconds until gRPC clients are asked to connect anew, by which they find new replicas; 0 means never",
    )
    add("start-timeout-s", float, 120.0, "seconds that Triton and the shim may each take to get ready")
    add("stop-timeout-s", float, 10.0, "seconds that requests in flight get to finish on SIGTERM")
    add(
        "hang-timeout-s",
        float,
        5.0,
        "seconds without an answer, a finished request or processor time that make a hang; 0 for never",
    )
    add("stuck-timeout-s", float, 300.0, "the same for a process that uses processor time, but finishes nothing")
    add("max-restarts", int, 5, "restarts within a minute; at one more the server gives up, and ends")
    add("control-socket", Path, None, "where scripts/update finds this server; by default a place in /tmp by http-port")
    result.add_argument("--no-rest", dest="rest", action="store_false", help="Triton only, without the REST shim")
    return result


def control_socket(http_port: int) -> Path:
    """Where a server listens for orders if it is not told: a directory of the user's own."""
    return Path(f"/tmp/embedding-service-{os.getuid()}/{http_port}.sock")


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Read the command line and the environment; exits with 2 and a message on a bad value."""
    command_line = parser(os.environ)
    values = command_line.parse_args(arguments)
    for flag in ("rest_port", "http_port", "grpc_port", "metrics_port"):
        if not 1 <= (port := getattr(values, flag)) <= 65535:
            command_line.error(f"--{flag.replace('_', '-')}: wanted a port from 1 to 65535, got {port}")
    if values.triton_log not in TRITON_LOGS:
        command_line.error(f"--triton-log: wanted one of {', '.join(TRITON_LOGS)}, got {values.triton_log!r}")
    for flag in ("threads", "grpc_max_connection_age_s", "hang_timeout_s", "max_restarts"):
        if (value := getattr(values, flag)) < 0:
            command_line.error(f"--{flag.replace('_', '-')}: wanted 0 or more, got {value}")
    try:
        # One address for all: Triton and the shim would choose differently among several. IPv6 is not offered.
        values.host = socket.getaddrinfo(values.host, None, socket.AF_INET)[0][4][0]
    except OSError as error:
        command_line.error(f"--host: wanted an IPv4 address or a name that has one, got {values.host!r} ({error})")
    values.model_repository = values.model_repository.expanduser().resolve()
    if values.model and (folder := Path(values.model).expanduser()).is_dir():
        values.model = str(folder.resolve())
    values.control_socket = values.control_socket or control_socket(values.http_port)
    settings = Settings(**vars(values))
    if len(set(settings.ports.values())) < len(settings.ports):
        command_line.error(f"wanted different ports, got {settings.ports}")
    return settings
