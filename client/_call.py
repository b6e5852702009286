"""What goes along with a call's texts, and what the call learns.

Along goes who asks, for the server's logs and traces. Learnt is how long the server took.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["Call"]


@dataclass
class Call:
    """One call, whatever the number of its pieces; used within one event loop.

    Attributes:
        request_id: becomes the id of each of its Triton requests.
        trace_context: W3C Trace Context, `traceparent` and `tracestate`.
        patient: whether its requests may wait for a server that is away, as far as the client does.
        server_s: seconds in which at least one piece was at the server.
    """

    request_id: str = ""
    trace_context: Mapping[str, str] = field(default_factory=dict)
    patient: bool = True
    server_s: float = 0.0
    _in_flight: int = 0
    _since: float = 0.0

    @contextlib.contextmanager
    def at_server(self) -> Iterator[None]:
        """Around each piece's way to the server and back."""
        if self._in_flight == 0:
            self._since = time.perf_counter()
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self.server_s += time.perf_counter() - self._since
