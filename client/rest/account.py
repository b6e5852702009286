"""The account of a request: what is told of it in the answer's headers, and to those who keep accounts.

request  ->  Account, in its scope  ->  the route fills it in  ->  headers of the answer
         ->  keepers: traces                                   ->  keepers: traces, metrics, the log
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from client._call import Call

__all__ = ["UNKNOWN_ROUTE", "Account", "Accounting", "Keeper", "account_of", "current", "is_probe", "request_id"]

# The route of what no route took: one word for whatever path was asked for.
UNKNOWN_ROUTE = "unknown"
# What machines ask every few seconds, and nobody wants to read of.
_PROBES = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
# FastAPI's own pages, which are routes of another kind.
_DOCUMENTATION = frozenset({"/docs", "/docs/oauth2-redirect", "/openapi.json", "/redoc"})
# What may become a header of the answer, a field of the log and Triton's request id as it came.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
# W3C Trace Context. What does not look like this is not passed on: gRPC refuses metadata that is not printable.
_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")
_TRACE_STATE = re.compile(r"[ -~]{1,512}")
_SAMPLED = 1

# The account of the request that the running code belongs to, for log lines written anywhere in it.
current: ContextVar[Account | None] = ContextVar("account", default=None)


@dataclass
class Account:
    """What is known of one HTTP request; never a text.

    Attributes:
        call: its id, its trace and its time at Triton.
        client: the caller's address; of the last proxy that is not trusted where there are proxies.
        probe: a health check or a scrape.
        route: the path's template; `UNKNOWN_ROUTE` where no route took it.
        status: of the answer; 499 if the client hung up before there was one.
        error: the type of the error body, "" for none.
        cause: what failed, where it was not the caller's mistake.
        texts: asked for.
        tokens: that the model saw, special tokens included; those of texts from the cache too.
        cache_hits: texts answered from the cache.
        cache_misses: texts looked for there in vain; 0 where there is no cache.
        digest: of the model that made the vectors.
        trace_id: of the trace that it belongs to, sampled or not; "" for none.
        span_id: of our own span, where traces are made.
        total_s: until the answer began, and in the end until it was sent.
    """

    call: Call
    method: str
    client: str = ""
    probe: bool = False
    route: str = UNKNOWN_ROUTE
    status: int = 499
    error: str = ""
    cause: Exception | None = None
    texts: int = 0
    tokens: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    digest: str = ""
    trace_id: str = ""
    span_id: str = ""
    total_s: float = 0.0
    began: float = field(default_factory=time.perf_counter)


class Keeper:
    """Somebody who keeps accounts. Called in the event loop, so it must not wait for anything."""

    def opened(self, account: Account) -> None:
        """The request's head has come."""

    def answering(self, account: Account) -> None:
        """The answer's head is about to be sent: status, texts and tokens are known."""

    def closed(self, account: Account) -> None:
        """The answer was sent, or will never be."""


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
        keepers: Sequence[Keeper] = (),
    ) -> None:
        """Args:
        bug: makes the answer to an exception that nobody has foreseen.
        keepers: are shown each account.
        """
        self._app = app
        self._bug = bug
        self._keepers = keepers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        account = _opened(scope)
        # A state of its own: the server hands every request the same one.
        scope["state"] = {**scope.get("state", {}), "account": account}
        # Not reset at the end: the server runs each request in a context of its own, and may log something after it.
        current.set(account)
        for keeper in self._keepers:
            keeper.opened(account)
        started = False

        async def tell(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                account.status = message["status"]
                account.total_s = time.perf_counter() - account.began
                for keeper in self._keepers:
                    keeper.answering(account)
                _tell(account, MutableHeaders(scope=message))
            await send(message)

        try:
            await self._app(scope, receive, tell)
        except Exception as error:
            # A bug of ours. It ends here, and goes to the log with the account: whoever is further out would log it
            # without, and with the error's own words, which may quote a text.
            account.cause, account.error = error, "server_error"
            if not started:
                await self._bug(Request(scope), error)(scope, receive, tell)
        finally:
            account.total_s = time.perf_counter() - account.began
            account.route = _route(scope)
            for keeper in self._keepers:
                keeper.closed(account)


def _opened(scope: Scope) -> Account:
    headers = Headers(scope=scope)
    client = scope.get("client")
    trace_id, context = _trace(headers)
    return Account(
        Call(request_id(headers.get("x-request-id", "")), context),
        scope["method"],
        client=client[0] if client else "",
        probe=is_probe(scope["path"]),
        trace_id=trace_id,
    )


def _route(scope: Scope) -> str:
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        path = scope["path"] if scope["path"] in _DOCUMENTATION else UNKNOWN_ROUTE
    return str(path)


def _trace(headers: Headers) -> tuple[str, Mapping[str, str]]:
    """The caller's trace, and what Triton gets of it.

    Triton traces whatever brings a context along, sampled or not (2.51), so it gets those only that are sampled.
    """
    found = _TRACE_PARENT.fullmatch(headers.get("traceparent", ""))
    if not found:
        return "", {}
    trace_id, flags = found.groups()
    if not int(flags, 16) & _SAMPLED:
        return trace_id, {}
    state = headers.get("tracestate", "")
    context = {"traceparent": found[0]}
    return trace_id, {**context, "tracestate": state} if _TRACE_STATE.fullmatch(state) else context


def request_id(given: str) -> str:
    """The caller's X-Request-ID, if it can do no harm, or a new one."""
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


def _tell(account: Account, headers: MutableHeaders) -> None:
    headers["X-Request-ID"] = account.call.request_id
    total, triton = 1000 * account.total_s, 1000 * account.call.server_s
    headers["Server-Timing"] = f"total;dur={total:.1f}, triton;dur={triton:.1f}, shim;dur={total - triton:.1f}"
    if account.digest:
        headers["X-Tokens"] = str(account.tokens)
        headers["X-Cache-Hits"] = str(account.cache_hits)
        headers["X-Model-Digest"] = account.digest
