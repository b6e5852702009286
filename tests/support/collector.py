"""An OpenTelemetry collector: takes spans over OTLP/HTTP, as protobuf or JSON, and keeps them."""

from __future__ import annotations

import base64
import contextlib
import gzip
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """What tests ask of a span; ids in hex."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    failed: bool


@dataclass
class Collector:
    """The spans so far."""

    url: str
    spans: list[Span] = field(default_factory=list)

    def wait_for(self, count: int, **fields: object) -> list[Span]:
        """At least so many spans with these values."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = [span for span in self.spans if all(getattr(span, key) == value for key, value in fields.items())]
            if len(found) >= count:
                return found
            time.sleep(0.02)
        raise AssertionError(f"no {count} spans with {fields}, only {self.spans}")


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """Run one in the block."""
    collector = Collector("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            kind = self.headers["Content-Type"]
            if self.path == "/v1/traces":
                collector.spans.extend(_spans(body, kind))
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _spans(body: bytes, kind: str) -> list[Span]:
    request = ExportTraceServiceRequest()
    if "json" in kind:
        json_format.Parse(body, request)
        # OTLP writes ids as hex, where protobuf's own JSON has base64.
        shown = _unread_base64
    else:
        request.ParseFromString(body)
        shown = bytes.hex
    return [
        Span(
            _attributes(resource.resource).get("service.name", ""),
            span.name,
            span.kind,
            shown(span.trace_id),
            shown(span.span_id),
            shown(span.parent_span_id),
            _attributes(span),
            span.status.code == span.status.STATUS_CODE_ERROR,
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _unread_base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _attributes(owner: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in owner.attributes}
