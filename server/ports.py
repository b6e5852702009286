"""The addresses to listen on, checked before anything is started."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping

from server.errors import PortTakenError

__all__ = ["check_ports"]


def check_ports(host: str, ports: Mapping[str, int]) -> None:
    """Refuse a port that cannot be listened on.

    Raises:
        PortTakenError: names the port's flag, and what to do.
    """
    for flag, port in ports.items():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As servers do: a port whose connections are just ending is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                advice = f"choose another with --{flag}"
                if error.errno == errno.EADDRNOTAVAIL:
                    advice = "--host wants an address of this machine"
                raise PortTakenError(f"cannot listen on {host} port {port}: {error.strerror}; {advice}") from error
