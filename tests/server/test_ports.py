"""Ports are held: nobody else gets one, Triton does, and a restart finds them free."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from server.errors import PortTakenError
from server.ports import held
from server.settings import Settings, parse
from tests.support.service import free_ports

REST, HTTP, GRPC, METRICS = "rest-port", "http-port", "grpc-port", "metrics-port"


def settings(**changed: int) -> Settings:
    ports = dict(zip((REST, HTTP, GRPC, METRICS), free_ports(4), strict=True))
    ports.update({flag.replace("_", "-"): port for flag, port in changed.items()})
    return parse([item for flag, port in ports.items() for item in (f"--{flag}", str(port))])


@contextlib.contextmanager
def listening(family: int, address: str, port: int) -> Iterator[socket.socket]:
    """As Triton does: with SO_REUSEPORT, over IPv6 sockets for gRPC."""
    with socket.socket(family) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind((address, port))
        server.listen()
        yield server


@pytest.mark.parametrize("flag", [REST, HTTP, GRPC])
def test_a_second_server_is_refused(flag: str) -> None:
    mine = settings()
    with held(mine):
        other = settings(**{flag.replace("-", "_"): mine.ports[flag]})
        with (
            pytest.raises(PortTakenError, match=f"port {mine.ports[flag]}: .* choose another with --{flag}"),
            held(other),
        ):
            pass


@pytest.mark.parametrize("flag", [REST, HTTP, GRPC, METRICS])
def test_a_port_that_somebody_listens_on_is_refused(flag: str) -> None:
    mine = settings()
    with (
        listening(socket.AF_INET, "127.0.0.1", mine.ports[flag]),
        pytest.raises(PortTakenError, match=f"choose another with --{flag}"),
        held(mine),
    ):
        pass


def test_two_tritons_can_listen_beside_it_and_connections_reach_them() -> None:
    mine = settings()
    with (
        held(mine),
        listening(socket.AF_INET, "127.0.0.1", mine.http_port) as http,
        listening(socket.AF_INET, "127.0.0.1", mine.http_port),
        listening(socket.AF_INET6, "::ffff:127.0.0.1", mine.grpc_port) as grpc,
    ):
        for server, port in ((grpc, mine.grpc_port), (http, mine.http_port)):
            server.settimeout(0.2)
            # Half of them on average; that none of 64 gets there is as likely as 64 heads.
            clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(64)]
            server.accept()[0].close()
            for client in clients:
                client.close()


def test_ports_are_free_at_once_after_connections_that_we_closed() -> None:
    mine = settings()
    with (
        held(mine),
        listening(socket.AF_INET, "127.0.0.1", mine.http_port) as server,
        socket.create_connection(("127.0.0.1", mine.http_port)) as client,
    ):
        accepted, _ = server.accept()
        accepted.close()  # first, so that the port is in TIME_WAIT
        client.recv(1)
    with held(mine):
        pass
