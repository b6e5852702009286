"""`python -m client.rest`: run the shim until SIGTERM or Ctrl-C; requests in flight are finished first."""

from __future__ import annotations

import contextlib
import gc
import math
import signal
import socket
import sys
from collections.abc import Sequence
from types import FrameType

import uvicorn
from pydantic import ValidationError
from pydantic_settings import CliApp

from client.rest.app import create_app
from client.rest.connection import connection_class
from client.rest.drain import Draining, Server
from client.rest.log import logging_to
from client.rest.settings import Settings

_STDERR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and return the exit code: 0 after a signal, 1 when the port cannot be had, 2 for a bad setting."""
    try:
        settings = CliApp.run(Settings, cli_args=list(sys.argv[1:] if arguments is None else arguments))
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            name = "-".join(str(part) for part in problem["loc"]).replace("_", "-")
            flag = f"--{name} (or EMBEDDING_REST_{name.upper().replace('-', '_')}): " if name else ""
            sys.stderr.write(f"python -m client.rest: {flag}{problem['msg']}\n")
        return 2
    with logging_to(_STDERR, settings.log_level, settings.log_format):
        _serve(settings)
    return 0


def _serve(settings: Settings) -> None:
    app = create_app(settings)
    draining = Draining(app)
    app.state.stopping = app.state.watch.stopping = lambda: draining.begun
    config = uvicorn.Config(
        draining,
        http=connection_class(app.state.watch),
        timeout_keep_alive=math.ceil(settings.keep_alive_s),
        # None of ours: else whoever asks for one gets an answer that is not ours, and by POST none at all.
        ws="none",
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.stop_timeout_s,
    )
    sockets = None if settings.listen_fd is None else [socket.socket(fileno=settings.listen_fd)]
    server = Server(config, draining, settings.drain_s)
    # What was imported and made by now stays until the end. Walked by each full garbage collection, it held up every
    # request for 50 to 95 ms (docs/overload.md).
    gc.collect()
    gc.freeze()
    # uvicorn repeats the signal that ended it, which would make SIGTERM's exit code -15. It was asked for: 0.
    signal.signal(signal.SIGTERM, _stop)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets)


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
