"""What is wanted of every refusal, whatever was refused: its path's form, and nothing of ours or the sender's in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from tests.garbage.bodies import MARKER

__all__ = ["assert_refused", "message_of"]

_OWN_TYPES = {
    400: "not_json",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "wrong_content_type",
    422: "invalid_input",
}
# A path of a file, a place in a program, a name of a class of ours or of a library's.
_INNER = re.compile(r"/(work|home|root|tmp|usr|opt|etc|site-packages)/|\.py\b|Traceback|line \d+, in |0x[0-9a-f]{8}")
_MOST_CHARACTERS = 400


def assert_refused(
    path: str, status: int, content: bytes, headers: Mapping[str, str], wanted: int, message: str, kind: str | None
) -> None:
    """The answer to a bad request on that path: its status, its form, and how its message starts."""
    text = content.decode()
    assert status == wanted, text[:_MOST_CHARACTERS]
    assert headers["content-type"] == "application/json"
    assert MARKER not in text.lower()
    assert not _INNER.search(text), text
    found = message_of(path, content, wanted, kind)
    assert found.startswith(message), found
    assert len(found) <= _MOST_CHARACTERS


def message_of(path: str, content: bytes, status: int, kind: str | None) -> str:
    """The message, out of the form that the path's interface has for errors."""
    body = json.loads(content)
    if path.startswith("/v1/"):
        assert set(body) == {"error"}
        error = body["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["type"], error["param"]) == ("invalid_request_error", kind)
    elif path in {"/", "/embed", "/tokenize", "/health"}:
        assert set(body) == {"error", "error_type"}
        assert body["error_type"] == (kind or "Validation")
        return str(body["error"])
    else:
        assert set(body) == {"error"}
        error = body["error"]
        assert set(error) == {"message", "type"}
        assert error["type"] == (kind or _OWN_TYPES[status])
    return str(error["message"])
