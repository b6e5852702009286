"""How many texts a client has where at this moment, for those who watch it.

accepted by `embed`  ->  waiting for their turn  ->  at the server  ->  answered
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

__all__ = ["Load"]


class Load:
    """Counts over all calls of one client; used within one event loop.

    Attributes:
        waiting: texts that the server has not got yet, or has to get again.
        at_server: texts that it has got and not answered.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self.at_server = 0

    @contextlib.contextmanager
    def call(self, texts: int) -> Iterator[CallLoad]:
        """Around a call of so many texts, whatever becomes of it."""
        own = CallLoad(self, texts)
        self.waiting += texts
        try:
            yield own
        finally:
            self.waiting -= own.left


class CallLoad:
    """One call's part. `left` is how many of its texts wait."""

    def __init__(self, load: Load, texts: int) -> None:
        self._load = load
        self.left = texts

    @contextlib.contextmanager
    def piece(self, texts: int) -> Iterator[None]:
        """Around one attempt at a piece; if it fails, its texts wait again."""
        self._move(texts)
        try:
            yield
        except BaseException:
            self._move(-texts)
            raise
        else:
            self._load.at_server -= texts

    def _move(self, texts: int) -> None:
        self.left -= texts
        self._load.waiting -= texts
        self._load.at_server += texts
