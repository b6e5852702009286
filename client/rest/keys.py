"""Who is let in: API keys, from the environment and from a file.

Authorization: Bearer KEY  ->  SHA-256  ->  compared with the digest of every key, in the same time whatever comes

Everything needs a key but what `_OPEN` lists, so that a new route is closed until somebody opens it. Only digests are
kept: nothing that prints these objects can print a key.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from client.rest.account import is_probe
from client.rest.errors import Unauthorized

__all__ = ["ApiKeys", "describe", "documented", "guard", "parse_keys", "read_keys"]

_log = logging.getLogger(__name__)

# What can stand in a header as it is.
_KEY = re.compile(r"[!-~]+")
# How soon a changed file counts.
_REREAD_S = 5.0
# The page, beside health and metrics: a browser has no key when it asks for it, and it holds nothing that is secret.
# (The documentation at /docs is not a route of ours.) Only reading is open: POST / embeds.
_OPEN_PAGES = frozenset({"/"})
_READING = frozenset({"GET", "HEAD"})
_BEARER = HTTPBearer(auto_error=False, description="One of the service's API keys.")


def parse_keys(text: str) -> list[str]:
    """Keys, separated by commas.

    Raises:
        ValueError: none, or one that no header can carry; tells its place, never the key.
    """
    return _checked(((f"key {number}", key.strip()) for number, key in enumerate(text.split(","), 1)), "the setting")


def read_keys(path: Path) -> list[str]:
    """Keys of a file, one on a line; blank lines and lines that start with # are left out.

    Raises:
        ValueError: as `parse_keys`, or a file that cannot be read.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a character that is not ASCII"
        raise ValueError(f"wanted a readable file of ASCII characters, got {path}: {reason}") from None
    numbered = ((f"line {number}", line.strip()) for number, line in enumerate(lines, 1))
    return _checked(((place, line) for place, line in numbered if not line.startswith("#")), str(path))


def _checked(placed: Iterable[tuple[str, str]], source: str) -> list[str]:
    found = []
    for place, key in placed:
        if not key:
            continue
        if not _KEY.fullmatch(key):
            raise ValueError(f"{source}, {place}: wanted visible ASCII characters without spaces, got others")
        found.append(key)
    if not found:
        # An open service must be meant: a secret that was not filled in must not open one.
        raise ValueError(f"wanted at least one key in {source}, got none; to serve without keys leave the setting out")
    return found


class ApiKeys:
    """The keys that are let in. Those of the file change with the file; none at all lets everybody in."""

    def __init__(self, keys: Iterable[str] = (), path: Path | None = None) -> None:
        """Args:
        keys: which stay.
        path: of more.

        Raises:
            ValueError: see `read_keys`.
        """
        self._fixed = [_digest(key) for key in keys]
        self._path = path
        self._state = _state(path)
        self._of_file = [_digest(key) for key in read_keys(path)] if path else []

    def __len__(self) -> int:
        return len(self._fixed) + len(self._of_file)

    def admit(self, key: str | None) -> None:
        """Let somebody in.

        Raises:
            Unauthorized: no key, or none of these.
        """
        if key is None:
            raise Unauthorized("Authorization: wanted Bearer and an API key, got none")
        digest = _digest(key)
        # All of them in any case, so that the time tells nothing.
        if sum([hmac.compare_digest(digest, known) for known in (*self._fixed, *self._of_file)]) == 0:
            raise Unauthorized("Authorization: wanted Bearer and one of this service's API keys, got another")

    async def follow(self) -> None:
        """Take over what is in the file when it changes, for as long as this runs."""
        while self._path:
            await asyncio.sleep(_REREAD_S)
            await asyncio.to_thread(self._reread, self._path)

    def _reread(self, path: Path) -> None:
        state = _state(path)
        if state == self._state:
            return
        self._state = state
        try:
            self._of_file = [_digest(key) for key in read_keys(path)]
        except ValueError as error:
            # Being written, or lost by mistake: neither shuts out those who have a key, nor lets others in.
            _log.error("API keys: %s; those that were there before stay", error)
        else:
            _log.info("API keys: read anew, %d in %s", len(self._of_file), path)


def describe(keys: ApiKeys, host: str, port: int) -> str:
    """One line for the start."""
    if keys:
        return f"API keys: {len(keys)}; requests without one of them are refused"
    return f"API keys: none configured, so whoever reaches {host}:{port} may use the service"


def guard(keys: ApiKeys) -> list[Any]:
    """Dependencies for the whole application: those of FastAPI(dependencies=…)."""
    if not keys:
        return []

    async def admit(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]
    ) -> None:
        if not _is_open(request.method, request.scope["route"].path):
            keys.admit(credentials.credentials if credentials else None)

    return [Security(admit)]


def documented(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """The application's OpenAPI page, on which what is open has no lock, and what is closed tells how it refuses."""
    make: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        schema = make()
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                if _is_open(method.upper(), path):
                    operation.pop("security", None)
                elif "security" in operation:
                    operation["responses"].setdefault("401", {"description": "No API key, or none of the service's."})
        return schema

    return openapi


def _is_open(method: str, path: str) -> bool:
    return method in _READING and (is_probe(path) or path in _OPEN_PAGES)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _state(path: Path | None) -> tuple[int, int, int] | None:
    """What changes when a file does, replaced by another one or written in place."""
    try:
        found = path.stat() if path else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino, found.st_size) if found else None
