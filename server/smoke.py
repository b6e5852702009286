"""`python -m server.smoke`: serve, embed one text, stop. The last step of the image's build.

Exit code 0: the server got ready, which takes a real embedding, and stopped when it was told to. Else 1, and its own
output says why.
"""

from __future__ import annotations

import subprocess
import sys

__all__ = ["main"]

_STOP_TIMEOUT_S = 60.0


def main() -> int:
    """Run the server as the image does, on loopback, until it is ready."""
    command = [sys.executable, "-m", "server", "--no-rest", "--host", "127.0.0.1", "--start-timeout-s", "300"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        ready = False
        for line in server.stdout or ():
            sys.stdout.write(line)
            sys.stdout.flush()
            if line.startswith("ready: "):
                ready = True
                server.terminate()
        code = server.wait(_STOP_TIMEOUT_S)
    return 0 if ready and code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
