"""What the shim's garbage collector walks while it serves: not what lives until the end."""

from __future__ import annotations

import subprocess
import sys

from tests.support.service import ROOT, free_ports

# As `python -m client.rest`; once it listens, what is frozen and what is not, and then the end.
PROGRAM = """
import gc, os, signal, socket, sys, threading, time
from client.rest.__main__ import main

def tell():
    while True:
        try:
            socket.create_connection(("127.0.0.1", int(sys.argv[2]))).close()
            break
        except OSError:
            time.sleep(0.1)
    print(gc.get_freeze_count(), len(gc.get_objects()))
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=tell, daemon=True).start()
sys.exit(main())
"""


def test_what_was_made_at_the_start_is_not_walked() -> None:
    [port] = free_ports(1)
    command = [sys.executable, "-c", PROGRAM, "--port", str(port)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    frozen, walked = map(int, done.stdout.split())
    assert walked < frozen / 4
