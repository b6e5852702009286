"""The account of a request: what is told of it in the answer's headers, and to those who keep accounts.

request  ->  Account, in its scope  ->  the route fills it in  ->  headers of the answer
                                                               ->  keepers: the log, the metrics
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from client._call import Call

__all__ = ["Account", "Accounting", "account_of", "is_probe"]

# What machines ask every few seconds.
_PROBES = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})

# What may become a header of the answer, a field of the log and Triton's request id as it came.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


@dataclass
class Account:
    """What is known of one HTTP request; never a text.

    Attributes:
        call: its id and its time at Triton.
        route: the path's template; "" where no route took it.
        status: of the answer; 499 if the client hung up before there was one.
        error: the type of the error body, "" for none.
        texts: asked for.
        tokens: that the model saw, special tokens included; those of texts from the cache too.
        cache_hits: texts answered from the cache.
        digest: of the model that made the vectors.
        total_s: until the answer began, and in the end until it was sent.
    """

    call: Call
    method: str
    route: str = ""
    status: int = 499
    error: str = ""
    texts: int = 0
    tokens: int = 0
    cache_hits: int = 0
    digest: str = ""
    total_s: float = 0.0
    began: float = field(default_factory=time.perf_counter)


def is_probe(path: str) -> bool:
    """Whether a path is one of health checks or scrapes."""
    return path in _PROBES


def account_of(request: Request) -> Account:
    """The request's account."""
    account: Account = request.scope["state"]["account"]
    return account


class Accounting:
    """Opens an account for each HTTP request, tells it in the answer's headers, and hands it to the keepers.

    `X-Request-ID` is the caller's or a new one. `Server-Timing` (W3C) has the total, Triton's part and the shim's own,
    in milliseconds; answers with vectors also have `X-Tokens`, `X-Cache-Hits` and `X-Model-Digest`.
    """

    def __init__(
        self,
        app: ASGIApp,
        bug: Callable[[Request, Exception], Response],
        keepers: Sequence[Callable[[Account], None]] = (),
    ) -> None:
        """Args:
        bug: makes the answer to an exception that nobody has foreseen.
        keepers: get each account when its answer was sent.
        """
        self._app = app
        self._bug = bug
        self._keepers = keepers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        account = Account(Call(_request_id(Headers(scope=scope))), scope["method"])
        # A state of its own: the server hands every request the same one.
        scope["state"] = {**scope.get("state", {}), "account": account}

        started = False

        async def tell(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                account.status = message["status"]
                account.total_s = time.perf_counter() - account.began
                _tell(account, MutableHeaders(scope=message))
            await send(message)

        try:
            await self._app(scope, receive, tell)
        except Exception as error:
            # A bug of ours; the server logs its traceback. Starlette would answer it too, but outside this account.
            if not started:
                await self._bug(Request(scope), error)(scope, receive, tell)
            raise
        finally:
            account.total_s = time.perf_counter() - account.began
            account.route = getattr(scope.get("route"), "path", "")
            for keep in self._keepers:
                keep(account)


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _tell(account: Account, headers: MutableHeaders) -> None:
    headers["X-Request-ID"] = account.call.request_id
    total, triton = 1000 * account.total_s, 1000 * account.call.server_s
    headers["Server-Timing"] = f"total;dur={total:.1f}, triton;dur={triton:.1f}, shim;dur={total - triton:.1f}"
    if account.digest:
        headers["X-Tokens"] = str(account.tokens)
        headers["X-Cache-Hits"] = str(account.cache_hits)
        headers["X-Model-Digest"] = account.digest
