"""`python -m server`: what scripts/serve runs once the environment is there."""

from __future__ import annotations

import asyncio
import resource
import sys

from server import settings as server_settings
from server.errors import StartError
from server.ports import held
from server.processors import available_processors
from server.supervisor import Supervisor
from server.triton import find

_DESCRIPTORS = 1 << 20


def main() -> int:
    """Serve until a signal; the exit code is 0 after one, and 1 with the reason on stderr when the start fails."""
    settings = server_settings.parse()
    _raise_descriptor_limit()
    try:
        with held(settings) as listening:
            installation = find()
            threads = settings.threads or available_processors()
            asyncio.run(Supervisor(settings, installation, threads, listening).run())
    except StartError as error:
        sys.stderr.write(f"serve: {error}\n")
        return 1
    return 0


def _raise_descriptor_limit() -> None:
    """Take as many file descriptors as we may: each connection is one, and shells give 1024 by default."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, _DESCRIPTORS), hard))


if __name__ == "__main__":
    sys.exit(main())
