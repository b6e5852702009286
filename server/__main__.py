"""`python -m server`: what scripts/serve runs once the environment is there."""

from __future__ import annotations

import asyncio
import sys

from server import settings as server_settings
from server.errors import StartError
from server.ports import check_ports
from server.processors import available_processors
from server.supervisor import Supervisor
from server.triton import find


def main() -> int:
    """Serve until a signal; the exit code is 0 after one, and 1 with the reason on stderr when the start fails."""
    settings = server_settings.parse()
    try:
        check_ports(settings.host, settings.ports)
        installation = find()
        threads = settings.threads or available_processors()
        asyncio.run(Supervisor(settings, installation, threads).run())
    except StartError as error:
        sys.stderr.write(f"serve: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
