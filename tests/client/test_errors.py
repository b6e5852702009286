"""Failures of Triton, in both transports' words, become one tree."""

from __future__ import annotations

import pytest

from client import errors

QUEUE_FULL = "in ensemble 'embedding', [request id: <id_unknown>] Exceeds maximum queue size"


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        pytest.param("StatusCode.INVALID_ARGUMENT", "bad", errors.InvalidInput, id="grpc-invalid"),
        pytest.param("400", "bad", errors.InvalidInput, id="http-invalid"),
        pytest.param("UNAVAILABLE", QUEUE_FULL, errors.Overloaded, id="grpc-queue-full"),
        pytest.param("503", QUEUE_FULL, errors.Overloaded, id="http-queue-full"),
        pytest.param("503", "Request timeout expired", errors.Overloaded, id="queue-timeout"),
        pytest.param("StatusCode.UNAVAILABLE", "Connection refused", errors.Unavailable, id="grpc-refused"),
        pytest.param("INTERNAL", "Stub process 'bert_0_0' is not healthy.", errors.Unavailable, id="grpc-dead-stub"),
        pytest.param("500", "Stub process 'bert_0_0' is not healthy.", errors.Unavailable, id="http-dead-stub"),
        pytest.param("404", "unknown model", errors.Unavailable, id="no-model"),
        pytest.param("DEADLINE_EXCEEDED", "Deadline Exceeded", errors.DeadlineExceeded, id="deadline"),
        pytest.param("INTERNAL", "onnx runtime error 6", errors.ServerError, id="grpc-internal"),
        pytest.param("500", "onnx runtime error 6", errors.ServerError, id="http-internal"),
        pytest.param(None, None, errors.ServerError, id="nothing-known"),
    ],
)
def test_from_status(status: str | None, message: str | None, expected: type[errors.EmbeddingError]) -> None:
    error = errors.from_status(status, message)
    assert type(error) is expected
    assert str(error)


def test_one_root_and_one_level() -> None:
    kinds = [getattr(errors, name) for name in errors.__all__ if name not in {"EmbeddingError", "from_status"}]
    assert all(kind.__bases__ == (errors.EmbeddingError,) for kind in kinds)


def test_the_docstring_shows_the_tree() -> None:
    kinds = [name for name in errors.__all__ if name not in {"EmbeddingError", "from_status"}]
    assert errors.__doc__ is not None
    assert all(f"── {name} " in errors.__doc__ for name in kinds)
