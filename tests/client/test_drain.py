"""SIGTERM to the shim's own program: who is connected is served, who comes later is refused by the system."""

from __future__ import annotations

import signal
import socket
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

from tests.support.shim import program

DRAIN_S = 1.0


def ask(connection: HTTPConnection) -> tuple[int, str | None]:
    """The status, and whether the connection ends with it."""
    connection.request("GET", "/health/live")
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.headers["Connection"]


def listens(address: tuple[str, int]) -> bool:
    """Whether a connection can be made."""
    try:
        socket.create_connection(address, timeout=20).close()
    except ConnectionRefusedError:
        return False
    return True


def test_from_the_signal_to_the_end(tmp_path: Path) -> None:
    with program(tmp_path, "--drain-s", str(DRAIN_S)) as shim:
        address = ("127.0.0.1", int(shim.url.rpartition(":")[2]))
        with (
            closing(HTTPConnection(*address, timeout=20)) as kept,
            closing(HTTPConnection(*address, timeout=20)) as late,
        ):
            assert ask(kept) == (200, None)
            signalled = time.monotonic()
            shim.process.send_signal(signal.SIGTERM)
            time.sleep(DRAIN_S / 4)
            assert ask(kept) == (200, "close"), "an old connection ends with an answer"
            time.sleep(max(0.0, signalled + DRAIN_S - 0.1 - time.monotonic()))
            late.connect()
            while listens(address):
                assert time.monotonic() < signalled + 20
                time.sleep(0.02)
            assert ask(late) == (200, "close"), "who connected before the end of listening is served"
        assert shim.process.wait(20) == 0
