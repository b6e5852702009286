"""Everything that can go wrong, as one tree.

    EmbeddingError
    ├── InvalidInput        the caller's mistake: says what was wanted and what came; the same call fails again
    ├── Overloaded          a queue is full or a text waited too long in one: try again a little later
    ├── Unavailable         nobody answers at that address, or the model's process is dead
    ├── DeadlineExceeded    no answer within the time given
    └── ServerError         the server failed at something that is not the caller's mistake

Transports raise nothing else. `from_status` is the one place that knows how Triton words its failures; what a transport
raised is kept as the error's `__cause__`.
"""

from __future__ import annotations

__all__ = [
    "DeadlineExceeded",
    "EmbeddingError",
    "InvalidInput",
    "Overloaded",
    "ServerError",
    "Unavailable",
    "from_status",
]


class EmbeddingError(Exception):
    """The root: catch this to catch every failure of the client.

    Attributes:
        retry_after_s: what the server asked to wait before the next attempt; None where it did not say.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class InvalidInput(EmbeddingError):
    """The caller's mistake.

    Attributes:
        field: the part of the request that is wrong; "" where it is none in particular.
    """

    def __init__(self, message: str, retry_after_s: float | None = None, *, field: str = "") -> None:
        super().__init__(message, retry_after_s)
        self.field = field


class Overloaded(EmbeddingError):
    """The server takes no more at the moment; a later attempt may succeed."""


class Unavailable(EmbeddingError):
    """The server cannot be reached, or cannot compute."""


class DeadlineExceeded(EmbeddingError):
    """No answer came in time."""


class ServerError(EmbeddingError):
    """The server failed."""


# Wordings of Triton 2.51 that say more than their status code: (what the message contains, what it means). They come
# with UNAVAILABLE, UNAVAILABLE and INTERNAL. A dead stub stays dead until Triton restarts, so it is not a ServerError.
_WORDINGS: tuple[tuple[str, type[EmbeddingError]], ...] = (
    ("Exceeds maximum queue size", Overloaded),
    ("Request timeout expired", Overloaded),
    ("is not healthy", Unavailable),
)

# gRPC's names and HTTP's numbers for the same thing.
_STATUSES: dict[str, type[EmbeddingError]] = {
    "INVALID_ARGUMENT": InvalidInput,
    "OUT_OF_RANGE": InvalidInput,
    "400": InvalidInput,
    "413": InvalidInput,
    # The model is named by us, not by the caller: it is not there (yet, or any more, while Triton stops).
    "NOT_FOUND": Unavailable,
    "404": Unavailable,
    "UNAVAILABLE": Unavailable,
    "503": Unavailable,
    # Our own calls are cancelled only when their channel closes under them.
    "CANCELLED": Unavailable,
    "499": Unavailable,
    "RESOURCE_EXHAUSTED": Overloaded,
    "429": Overloaded,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "504": DeadlineExceeded,
}


def from_status(status: str | None, message: str | None) -> EmbeddingError:
    """The error for a failed call.

    Args:
        status: `StatusCode.UNAVAILABLE`, `UNAVAILABLE` (gRPC) or `503` (HTTP).
        message: the server's words.
    """
    code = (status or "").removeprefix("StatusCode.")
    words = message or f"the server answered {code or 'nothing'} without a reason"
    for part, error in _WORDINGS:
        if part in words:
            return error(words)
    return _STATUSES.get(code, ServerError)(words)
