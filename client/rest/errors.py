"""From errors to answers: one table, and a body for each interface.

    error  ->  Failure (status, type, message, headers)  ->  body, by the route's own form
    {"error": {"type": "invalid_input", "message": "texts[3]: wanted a string, got the integer 7"}}

The caller is told its mistake in full; ours go to the log, and the caller gets a fixed sentence.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from client import DeadlineExceeded, EmbeddingError, InvalidInput, Overloaded, ServerError, Unavailable
from client.rest.account import account_of
from client.rest.schemas import ErrorAnswer

__all__ = [
    "BodyTooLarge",
    "Failure",
    "NotJson",
    "WrongContentType",
    "answer",
    "bug",
    "failure_of",
    "install",
    "responses",
    "route_answering",
]

_log = logging.getLogger(__name__)


class NotJson(InvalidInput):
    """The body is not JSON."""


class WrongContentType(InvalidInput):
    """The body is not declared as JSON."""


class BodyTooLarge(InvalidInput):
    """The body is larger than allowed."""


@dataclass(frozen=True)
class Row:
    """How an error is answered. Without a sentence, the error's own words are passed on."""

    status: int
    type: str
    sentence: str | None = None
    retry_after_s: int | None = None


_TABLE: dict[type[Exception], Row] = {
    NotJson: Row(400, "not_json"),
    BodyTooLarge: Row(413, "body_too_large"),
    WrongContentType: Row(415, "wrong_content_type"),
    InvalidInput: Row(422, "invalid_input"),
    Overloaded: Row(429, "overloaded", "the service takes no more texts at the moment; try again later", 1),
    Unavailable: Row(503, "unavailable", "the model cannot be reached at the moment; try again later", 3),
    DeadlineExceeded: Row(504, "deadline_exceeded", "the model did not answer in time"),
    ServerError: Row(500, "server_error", "the service failed at this request; its log says why"),
    Exception: Row(500, "server_error", "the service failed at this request; its log says why"),
}

_STATUS_TYPES = {404: "not_found", 405: "method_not_allowed"}


@dataclass(frozen=True)
class Failure:
    """What a caller is told, whatever the form of the body."""

    status: int
    type: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)


Body = Callable[[Failure], object]


def failure_of(error: Exception) -> Failure:
    """What any error means for the caller, by the nearest class in the table."""
    row = next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)
    headers = {"Retry-After": str(row.retry_after_s)} if row.retry_after_s else {}
    return Failure(row.status, row.type, row.sentence or str(error), headers)


def own_body(failure: Failure) -> object:
    """The body of ErrorAnswer, for all routes but those of other interfaces."""
    return {"error": {"type": failure.type, "message": failure.message}}


def answer(request: Request, failure: Failure, body: Body = own_body) -> Response:
    """The failure as an answer, noted in the request's account."""
    account_of(request).error = failure.type
    content = orjson.dumps(body(failure))
    return Response(content, failure.status, dict(failure.headers), media_type="application/json")


def bug(request: Request, error: Exception) -> Response:
    """The answer to an error that nobody has foreseen."""
    return answer(request, failure_of(error))


def route_answering(body: Body) -> type[APIRoute]:
    """A class of routes (`APIRouter(route_class=…)`) that answer failures in a form of their own."""

    class Route(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_or_answer(request: Request) -> Response:
                try:
                    return await handle(request)
                except EmbeddingError as error:
                    return _embedding_failure(request, error, body)

            return handle_or_answer

    return Route


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI page's entries for failures."""
    return {status: {"model": ErrorAnswer} for status in statuses}


def install(app: FastAPI) -> None:
    """Make the app's failures answer in our own form. (Bugs are answered by `account.Accounting`.)"""
    app.add_exception_handler(EmbeddingError, _embedding_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(ClientDisconnect, _client_disconnect)


async def _embedding_error(request: Request, error: Exception) -> Response:
    return _embedding_failure(request, error, own_body)


def _embedding_failure(request: Request, error: Exception, body: Body) -> Response:
    failure = failure_of(error)
    if failure.status >= 500:
        _log.error("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error)
    return answer(request, failure, body)


async def _http_exception(request: Request, error: Exception) -> Response:
    """404 and 405 of the router."""
    if not isinstance(error, HTTPException):
        raise error  # registered for nothing else
    kind = _STATUS_TYPES.get(error.status_code, "http_error")
    allowed = (error.headers or {}).get("Allow")
    message = f"wanted {allowed}, got {request.method}" if allowed else "no such path; GET /docs lists those there are"
    return answer(request, Failure(error.status_code, kind, message, error.headers or {}))


async def _client_disconnect(request: Request, error: Exception) -> Response:
    """Nobody is there to read this."""
    return answer(request, Failure(499, "client_disconnected", "the client hung up"))
