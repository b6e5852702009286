"""SIGTERM to the shim's own program: who is connected is served, who comes later is refused by the system."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support.shim import program

REQUEST = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
DRAIN_S = 1.0


def test_from_the_signal_to_the_end(tmp_path: Path) -> None:
    with program(tmp_path, "--drain-s", str(DRAIN_S)) as shim:
        address = ("127.0.0.1", int(shim.url.rpartition(":")[2]))
        with socket.create_connection(address, timeout=20) as kept:
            kept.sendall(REQUEST)
            assert b"connection: close" not in kept.recv(1000)
            signalled = time.monotonic()
            shim.process.send_signal(signal.SIGTERM)
            time.sleep(DRAIN_S / 4)
            kept.sendall(REQUEST)
            assert b"connection: close" in kept.recv(1000).lower(), "an old connection ends with an answer"
        time.sleep(3 * DRAIN_S / 4 - 0.1)
        with socket.create_connection(address, timeout=20) as late:
            while time.monotonic() < signalled + DRAIN_S + 0.1:
                time.sleep(0.01)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, timeout=20)
            late.sendall(REQUEST)
            answer = late.recv(1000)
            assert answer.startswith(b"HTTP/1.1 200 "), "who connected before the end of listening is served"
            assert b"connection: close" in answer.lower()
        assert shim.process.wait(20) == 0
