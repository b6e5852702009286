"""The log: one line per request and what libraries say, as Elastic Common Schema or for people, on stderr.

account, closed  ->  record  ->  JSON  ->  queue, bounded  ->  a thread  ->  stderr
uvicorn, asyncio, …  ->

Never a text, never a key: a line holds what the account holds, and of an exception within a request only its type and
its frames, because its words may quote what was sent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import ecs_logging
import orjson

from client import EmbeddingError, __version__
from client.rest.account import Account, Keeper, current
from client.rest.tracing import SERVICE_NAME

__all__ = ["RequestLog", "logging_to"]

_log = logging.getLogger("embedding.request")

# Lines that wait for the thread: some seconds of many requests, 3 MB.
_LINES = 4096
# Lines are written together that come within so many seconds. To wake the thread for each one took 0.3 ms of processor
# time a request on an otherwise idle machine (2-core x86), most of it for changing between threads.
_GATHER_S = 0.1
# What the end of the process waits for a reader that does not read.
_CLOSE_S = 1.0
_LOST = "a log line could not be formatted"
_DROPPED = "log lines were dropped: whoever reads them is too slow"


class RequestLog(Keeper):
    """A line per request: at error where the service failed, at debug for health checks and scrapes, else at info."""

    def closed(self, account: Account) -> None:
        """See Keeper."""
        failed = account.cause is not None or account.status >= 500
        level = logging.DEBUG if account.probe else logging.ERROR if failed else logging.INFO
        if not _log.isEnabledFor(level):
            return
        _log.log(
            level,
            "%s %s %d",
            account.method,
            account.route,
            account.status,
            extra=_fields(account),
            exc_info=_unforeseen(account.cause),
        )


def _fields(account: Account) -> dict[str, object]:
    """Those of the Elastic Common Schema, and our own under `embedding`."""
    fields: dict[str, object] = {
        "event.duration": int(1e9 * account.total_s),
        "event.outcome": "success" if account.status < 400 and account.cause is None else "failure",
        "http.request.method": account.method,
        "http.response.status_code": account.status,
        "url.path": account.route,
    }
    if account.client:
        fields["client.ip"] = account.client
    if account.error:
        fields["error.type"] = account.error
    if isinstance(account.cause, EmbeddingError):
        fields["error.message"] = f"{type(account.cause).__name__}: {account.cause}"
    if account.texts:
        fields["embedding.texts"] = account.texts
        fields["embedding.tokens"] = account.tokens
        fields["embedding.cache_hits"] = account.cache_hits
        fields["embedding.triton_ms"] = round(1000 * account.call.server_s, 3)
    return fields


def _unforeseen(cause: Exception | None) -> Any:
    """For a traceback: of bugs only. The others are known by their type and message."""
    if cause is None or isinstance(cause, EmbeddingError):
        return None
    return (type(cause), cause, cause.__traceback__)


# Fields as they are called for people.
_SHORT = {
    "client.ip": "client",
    "error.type": "error",
    "error.message": "because",
    "embedding.texts": "texts",
    "embedding.tokens": "tokens",
    "embedding.cache_hits": "cache_hits",
    "embedding.triton_ms": "triton_ms",
    "http.request.id": "id",
    "trace.id": "trace",
}


@contextlib.contextmanager
def logging_to(stream: int, level: str, form: Literal["json", "text"]) -> Iterator[None]:
    """Send everything that is logged in the block to a file descriptor.

    Args:
        stream: 2 for stderr.
        level: the least.
        form: how a line looks.
    """
    handler = _BackgroundHandler(stream)
    handler.setFormatter(_Json() if form == "json" else _Text())
    handler.addFilter(_relate)
    root = logging.getLogger()
    handlers, root_level = root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(root_level)
        handler.close()


def _relate(record: logging.LogRecord) -> bool:
    """Add whose request a line belongs to; this runs where the line is logged."""
    account = current.get()
    if account is None:
        return True
    fields = record.__dict__
    fields["http.request.id"] = account.call.request_id
    if account.trace_id:
        fields["trace.id"] = account.trace_id
    if account.span_id:
        fields["span.id"] = account.span_id
    if record.exc_info and record.exc_info[0]:
        name = record.exc_info[0].__name__
        fields.setdefault("error.type", name)
        fields["error.message"] = name
        fields["error.stack_trace"] = "".join(traceback.format_tb(record.exc_info[2]))
        record.exc_info = None
    return True


class _Json(ecs_logging.StdlibFormatter):
    def __init__(self) -> None:
        super().__init__(
            extra={"service.name": SERVICE_NAME, "service.version": __version__},
            exclude_fields=("log.original", "log.origin", "process", "color_message"),
        )

    def format(self, record: logging.LogRecord) -> str:
        # As the library does it, with the fields first that people look for; by orjson that takes 60 µs instead of 100
        # (2-core x86), which counts when thousands of requests a second are turned away.
        fields = self.format_to_ecs(record)
        level = fields["log"].pop("level")
        first = {"@timestamp": fields.pop("@timestamp"), "log.level": level, "message": fields.pop("message")}
        return orjson.dumps({**first, **fields}, default=str).decode()


class _Text(logging.Formatter):
    """`2026-01-31 12:00:00,000 INFO embedding.request: POST /embedding 200  texts=3 tokens=19 …`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = record.__dict__
        found = [f"ms={fields['event.duration'] / 1e6:.1f}"] if "event.duration" in fields else []
        found += [f"{short}={fields[name]}" for name, short in _SHORT.items() if name in fields]
        line = "  ".join([super().formatMessage(record), " ".join(found)]).rstrip()
        return f"{line}\n{fields['error.stack_trace']}".rstrip() if "error.stack_trace" in fields else line


class _BackgroundHandler(logging.Handler):
    """Lines go through a queue to a thread that writes them.

    A pipe whose reader has stopped blocks whoever writes to it: that is then this thread, and not the event loop. What
    does not fit into the queue meanwhile is dropped and counted.
    """

    def __init__(self, stream: int) -> None:
        super().__init__()
        self._stream = stream
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._dropped = 0
        # Not waited for at the end of the process: it may never come back from its reader.
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._queue.qsize() >= _LINES:
            self._dropped += 1
            return
        if self._dropped:
            self._queue.put(self._own_line("WARNING", f"{self._dropped} {_DROPPED}"))
            self._dropped = 0
        try:
            # Here and not in the thread: two threads that compute take the interpreter from each other.
            line = self.format(record)
        except Exception as error:  # this line is lost, with what is wrong in it, and not all that follow
            line = self._own_line("ERROR", f"{_LOST}: {type(error).__name__}")
        self._queue.put(line)

    def close(self) -> None:
        if self._dropped:
            self._queue.put(self._own_line("WARNING", f"{self._dropped} {_DROPPED}"))
        self._queue.put(None)
        self._thread.join(_CLOSE_S)
        super().close()

    def _own_line(self, level: str, message: str) -> str:
        return self.format(logging.makeLogRecord({"name": __name__, "levelname": level, "msg": message}))

    def _work(self) -> None:
        ended = False
        while not ended:
            lines = [self._queue.get()]
            time.sleep(_GATHER_S if lines[0] is not None else 0)
            lines += [self._queue.get() for _ in range(self._queue.qsize())]
            ended = lines[-1] is None
            self._write([line for line in lines if line is not None])

    def _write(self, lines: Sequence[str]) -> None:
        rest = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
        # Straight to the descriptor: sys.stderr has a lock, which the end of the process would wait for. Nobody may
        # read us any more: then nobody misses the lines.
        with contextlib.suppress(OSError):
            while rest:
                rest = rest[os.write(self._stream, rest) :]
