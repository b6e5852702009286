"""From errors to answers: one table, one body.

    {"error": {"type": "invalid_input", "message": "texts[3]: wanted a string, got the integer 7"}}

The caller is told its mistake in full; ours go to the log, and the caller gets a fixed sentence.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from client import DeadlineExceeded, EmbeddingError, InvalidInput, Overloaded, ServerError, Unavailable
from client.rest.schemas import ErrorAnswer

__all__ = ["BodyTooLarge", "NotJson", "WrongContentType", "error_answer", "install", "responses", "unready_answer"]

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


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI page's entries for failures."""
    return {status: {"model": ErrorAnswer} for status in statuses}


def error_answer(error: Exception) -> Response:
    """The answer for any error, by the nearest class in the table."""
    row = _row(error)
    headers = {"Retry-After": str(row.retry_after_s)} if row.retry_after_s else {}
    return _answer(row.status, row.type, row.sentence or str(error), headers)


def unready_answer(error: EmbeddingError) -> Response:
    """503 with the reason in its own words, which operators need."""
    return _answer(503, _row(error).type, str(error), {})


def install(app: FastAPI) -> None:
    """Make every failure of the app answer in this form."""
    app.add_exception_handler(EmbeddingError, _embedding_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(ClientDisconnect, _client_disconnect)
    app.add_exception_handler(Exception, _unexpected)


async def _embedding_error(request: Request, error: Exception) -> Response:
    answer = error_answer(error)
    if answer.status_code >= 500:
        _log.error("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error)
    return answer


async def _http_exception(request: Request, error: Exception) -> Response:
    """404 and 405 of the router."""
    if not isinstance(error, HTTPException):
        raise error  # registered for nothing else
    kind = _STATUS_TYPES.get(error.status_code, "http_error")
    allowed = (error.headers or {}).get("Allow")
    message = f"wanted {allowed}, got {request.method}" if allowed else "no such path; GET /docs lists those there are"
    return _answer(error.status_code, kind, message, dict(error.headers or {}))


async def _client_disconnect(request: Request, error: Exception) -> Response:
    """Nobody is there to read this."""
    return Response(status_code=499)


async def _unexpected(request: Request, error: Exception) -> Response:
    """A bug of ours. Starlette raises it again after this answer, and the server logs its traceback."""
    return error_answer(error)


def _row(error: Exception) -> Row:
    return next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)


def _answer(status: int, kind: str, message: str, headers: dict[str, str]) -> Response:
    body = orjson.dumps({"error": {"type": kind, "message": message}})
    return Response(body, status, headers, media_type="application/json")
