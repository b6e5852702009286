"""The door: what is told before the application is asked, in the application's own words.

POST to a path that embeds  ->  would anybody be let in now?  ->  429, Retry-After, and the error body of that path
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import orjson

from client.errors import Overloaded
from client.rest.account import request_id
from client.rest.admission import Admission
from client.rest.connection import Bounds, Refusal, Watch
from client.rest.errors import Failure, Form, HeadTooLarge, TooSlow, failure_of, own_form

__all__ = ["EMBEDDING_PATHS", "watch"]

# POST to these is for texts that go to Triton.
EMBEDDING_PATHS = ("/embedding", "/v1/embeddings", "/embed", "/")


def watch(
    form_of: Callable[[str], Form],
    admission: Admission,
    bounds: Bounds,
    count: Callable[[str, int], Callable[[], None]],
) -> Watch:
    """What the connections of an application need to know.

    Args:
        form_of: whose words a failure at a path takes.
        admission: who is let in.
        bounds: of each connection.
        count: gives what counts a refusal at a path, with a status.
    """
    # Made once, but for what differs: at overload it is said a thousand times a second.
    failure = dataclasses.replace(failure_of(Overloaded("")), headers={})
    refusals = {path.encode(): _refusal(failure, form_of(path)) for path in EMBEDDING_PATHS}
    counters = {path.encode(): count(path, refusals[path.encode()].status) for path in EMBEDDING_PATHS}

    def refuse(path: bytes, given_id: bytes) -> Refusal | None:
        if (refusal := refusals.get(path)) is None or (overloaded := admission.refusal()) is None:
            return None
        counters[path]()
        retry_after_s = math.ceil(overloaded.retry_after_s or 1)
        lines = f"retry-after: {retry_after_s}\r\nx-request-id: {request_id(given_id.decode('latin-1'))}\r\n"
        return Refusal(refusal.status, refusal.headers + lines.encode(), refusal.body)

    return Watch(
        bounds,
        refuse,
        too_slow=_refusal(failure_of(TooSlow(f"wanted a whole request within {bounds.receive_s:g} s, or 10 kB/s"))),
        too_long=_refusal(failure_of(HeadTooLarge("wanted a head of at most 64 KiB, got more"))),
    )


def _refusal(failure: Failure, form: Form = own_form) -> Refusal:
    status, body = form(failure)
    lines = "".join(f"{name.lower()}: {value}\r\n" for name, value in failure.headers.items())
    return Refusal(status, f"content-type: application/json\r\n{lines}".encode(), orjson.dumps(body))
