"""The ports to listen on, taken before anything is started and held until the end.

A port that somebody else has is refused at the start, and nobody can take one while Triton or the shim is started anew.
The shim inherits its socket, so connections wait in it while there is no shim. Triton cannot inherit one: it listens
beside ours, by SO_REUSEPORT, and ours only holds the port. Two Tritons can do so for the moment of an update. Triton's
metrics port knows no SO_REUSEPORT, so it is only looked at.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

from server.errors import PortTakenError
from server.settings import Settings

__all__ = ["free_port", "held"]


@contextlib.contextmanager
def held(settings: Settings) -> Iterator[socket.socket | None]:
    """Hold the ports; gives the shim's socket, which does not listen yet, or None where there is no shim.

    Raises:
        PortTakenError: names the port's flag, and what to do.
    """
    with contextlib.ExitStack() as stack:
        sockets = {
            flag: stack.enter_context(_bound(settings.host, flag, port)) for flag, port in settings.ports.items()
        }
        sockets["metrics-port"].close()
        for flag in ("http-port", "grpc-port"):
            sockets[flag].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield sockets.get("rest-port")


def free_port(host: str) -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _bound(host: str, flag: str, port: int) -> socket.socket:
    result = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # As servers do: a port whose connections are just ending is free. Only while it binds: two sockets that both have
    # this set and do not listen yet may share a port.
    result.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        result.bind((host, port))
    except OSError as error:
        result.close()
        advice = f"choose another with --{flag}"
        if error.errno == errno.EADDRNOTAVAIL:
            advice = "--host wants an address of this machine"
        raise PortTakenError(f"cannot listen on {host} port {port}: {error.strerror}; {advice}") from error
    result.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return result
