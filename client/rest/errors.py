"""From errors to answers: one table, and a form for each interface.

    error  ->  Failure (status, type, message, headers)  ->  status and body, by the form of the path
    {"error": {"type": "invalid_input", "message": "texts[3]: wanted a string, got the integer 7"}}

The path decides and not the route, so that what is refused before or outside a route (no such path, no key, too much
at a time, a bug) is worded in the same way.

The caller is told its mistake in full; ours go to the log, by way of the account, and the caller gets
a fixed sentence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from client import DeadlineExceeded, EmbeddingError, InvalidInput, Overloaded, ServerError, Unavailable
from client.rest.account import account_of
from client.rest.schemas import ErrorAnswer

__all__ = [
    "BodyTooLarge",
    "EmptyInput",
    "Failure",
    "Form",
    "HeadTooLarge",
    "NotJson",
    "TooSlow",
    "Unauthorized",
    "UnknownModel",
    "WrongContentType",
    "answer",
    "bug",
    "failure_of",
    "install",
    "own_form",
    "responses",
]


class NotJson(InvalidInput):
    """The body is not JSON."""


class WrongContentType(InvalidInput):
    """The body is not declared as JSON."""


class BodyTooLarge(InvalidInput):
    """The body is larger than allowed."""


class Unauthorized(InvalidInput):
    """No API key, or none of ours."""


class EmptyInput(InvalidInput):
    """An empty text, or no text at all, where the interface allows none."""


class UnknownModel(InvalidInput):
    """A model by a name that is not the served one's."""


class TooSlow(InvalidInput):
    """The request does not come within the time given."""


class HeadTooLarge(InvalidInput):
    """The request's head, or what its body has beside its content, does not end."""


@dataclass(frozen=True)
class Row:
    """How an error is answered. Without a sentence, the error's own words are passed on.

    Where there is a time to come back, the error's own goes before the one given here.
    """

    status: int
    type: str
    sentence: str | None = None
    retry_after_s: int | None = None
    challenge: str | None = None


_TABLE: dict[type[Exception], Row] = {
    NotJson: Row(400, "not_json"),
    Unauthorized: Row(401, "unauthorized", challenge="Bearer"),
    TooSlow: Row(408, "too_slow"),
    BodyTooLarge: Row(413, "body_too_large"),
    HeadTooLarge: Row(431, "head_too_large"),
    WrongContentType: Row(415, "wrong_content_type"),
    EmptyInput: Row(400, "empty_input"),
    UnknownModel: Row(404, "unknown_model"),
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
    """What a caller is told, whatever the form of the answer. `field` is the part of the request that is wrong."""

    status: int
    type: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    field: str = ""


# How an interface words a failure: its status, and the body.
Form = Callable[[Failure], tuple[int, object]]


def failure_of(error: Exception) -> Failure:
    """What any error means for the caller, by the nearest class in the table."""
    row = next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)
    retry_after_s = row.retry_after_s
    if retry_after_s is not None and isinstance(error, EmbeddingError) and error.retry_after_s is not None:
        retry_after_s = math.ceil(error.retry_after_s)
    headers = {"Retry-After": str(retry_after_s)} if retry_after_s is not None else {}
    if row.challenge:
        headers["WWW-Authenticate"] = row.challenge
    place = error.field if isinstance(error, InvalidInput) else ""
    return Failure(row.status, row.type, row.sentence or str(error), headers, place)


def own_form(failure: Failure) -> tuple[int, object]:
    """ErrorAnswer, for all paths but those of other interfaces."""
    return failure.status, {"error": {"type": failure.type, "message": failure.message}}


def answer(request: Request, failure: Failure) -> Response:
    """The failure as an answer in the form of the request's path, noted in the request's account."""
    account_of(request).error = failure.type
    form: Form = request.app.state.form_of(request.scope["path"])
    status, body = form(failure)
    return Response(orjson.dumps(body), status, dict(failure.headers), media_type="application/json")


def bug(request: Request, error: Exception) -> Response:
    """The answer to an error that nobody has foreseen."""
    return answer(request, failure_of(error))


def responses(*statuses: int, model: type[BaseModel] = ErrorAnswer) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI page's entries for failures."""
    return {status: {"model": model} for status in statuses}


def install(app: FastAPI, form_of: Callable[[str], Form] = lambda path: own_form) -> None:
    """Make the app's failures answer, each in the form of its path. (Bugs are answered by `account.Accounting`.)"""
    app.state.form_of = form_of
    app.add_exception_handler(EmbeddingError, _embedding_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(ClientDisconnect, _client_disconnect)


async def _embedding_error(request: Request, error: Exception) -> Response:
    failure = failure_of(error)
    if failure.status >= 500:
        account_of(request).cause = error
    return answer(request, failure)


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
