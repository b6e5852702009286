"""`python -m server.drain`: wait until the REST shim beside this Triton has finished.

In a Kubernetes pod both containers are told to end at the same time, but the shim needs Triton for the requests that it
has accepted. So Triton's container runs this first (its preStop hook). The shim holds a gRPC connection to Triton, over
the loopback that the containers of a pod share, until it has answered its last request; what is waited for is the end
of the last such connection. A shim that is already gone is not waited for.
"""

from __future__ import annotations

import argparse
import ipaddress
import sys
import time
from collections.abc import Sequence

import psutil

from server import settings as server_settings

__all__ = ["connections", "main"]

_POLL_S = 0.2


def connections(port: int) -> int:
    """How many connections to `port` come from this machine, or this pod, over loopback."""
    established = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_ESTABLISHED]
    ends: list[tuple[int, str]] = [
        (each.laddr.port, each.raddr.ip) for each in established if each.laddr and each.raddr
    ]
    return sum(local_port == port and _is_loopback(remote) for local_port, remote in ends)


def _is_loopback(address: str) -> bool:
    # A server on [::] sees 127.0.0.1 as ::ffff:127.0.0.1.
    return ipaddress.ip_address(address.removeprefix("::ffff:")).is_loopback


def main(arguments: Sequence[str] | None = None) -> int:
    """Wait, and return the exit code: 0 when nobody is connected any more, 1 when the time is up."""
    parser = argparse.ArgumentParser(
        prog="python -m server.drain", description="Wait until the REST shim beside this Triton has finished."
    )
    parser.add_argument("--timeout-s", type=float, default=60.0, help="seconds to wait at most (%(default)s)")
    options = parser.parse_args(arguments)
    port = server_settings.parse([]).grpc_port
    deadline = time.monotonic() + options.timeout_s
    while count := connections(port):
        if time.monotonic() >= deadline:
            sys.stderr.write(f"{count} connections to port {port} after {options.timeout_s:.0f} s: waiting no longer\n")
            return 1
        time.sleep(_POLL_S)
    return 0


if __name__ == "__main__":
    sys.exit(main())
