"""Requests that are wrong before their body counts, as bytes on the wire: HTTP itself, methods, paths, headers.

name -> (bytes, status, start of the answer's message). Status None: no answer can be given, and the connection ends.
"""

from __future__ import annotations

from tests.garbage.bodies import MARKER

_BODY = b'{"texts": ["%b"]}' % MARKER.encode()
_POST = b"POST /embedding HTTP/1.1\r\n"
_HOST = b"Host: here\r\n"
_JSON = b"Content-Type: application/json\r\n"
_LENGTH = b"Content-Length: %d\r\n" % len(_BODY)
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_BODY), _BODY)
_NO_HTTP = "Invalid HTTP request received."
_NO_PATH = "no such path"


def _get(path: bytes, *lines: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\n%b%b\r\n" % (path, _HOST, b"".join(lines))


def _post(*lines: bytes, first: bytes = _POST, body: bytes = _BODY) -> bytes:
    return first + _HOST + _JSON + b"".join(lines) + b"\r\n" + body


# Not HTTP, or not what HTTP/1.1 allows. Who sends such a thing reads no JSON: the answer is a sentence of plain text.
_TLS_HELLO = bytes.fromhex("16030100a5010000a10303") + bytes(range(1, 150))
NO_HTTP: dict[str, bytes] = {
    "nul-bytes": b"\x00\x01\x02\r\n\r\n",
    "a-word": b"hello\r\n\r\n",
    "json": _BODY + b"\r\n\r\n",
    "tls": _TLS_HELLO,
    "http-2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "smtp": b"EHLO here\r\n",
    "http-9.9": b"GET / HTTP/9.9\r\n" + _HOST + b"\r\n",
    "no-version": b"GET /info \r\n\r\n",
    "another-protocol": b"GET /info ICE/1.0\r\n\r\n",
    "method-unknown": b"BREW /embedding HTTP/1.1\r\n" + _HOST + b"\r\n",
    "method-in-small-letters": _post(_LENGTH, first=b"post /embedding HTTP/1.1\r\n"),
    "method-with-a-control-character": _post(_LENGTH, first=b"PO\x01ST /embedding HTTP/1.1\r\n"),
    "connect": b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "space-in-the-path": _get(b"/in fo"),
    "nul-in-the-path": _get(b"/in\x00fo"),
    "utf-8-in-the-path": _get("/é".encode()),
    "path-of-70000": _get(b"/" + b"a" * 70_000),
    "query-of-70000": _get(b"/info?" + b"a" * 70_000),
    "header-without-colon": _post(b"Bad\r\n", _LENGTH),
    "header-without-name": _post(b": x\r\n", _LENGTH),
    "header-with-a-space-in-its-name": _post(b"Bad Name: x\r\n", _LENGTH),
    "header-with-a-space-after-its-name": _post(b"Content-Length : %d\r\n" % len(_BODY)),
    "header-with-a-nul": _post(b"X: a\x00b\r\n", _LENGTH),
    "header-with-a-return": _post(b"X: a\rY: b\r\n", _LENGTH),
    "header-on-two-lines": _post(b"X: a\r\n b\r\n", _LENGTH),
    "host-with-a-control-character": _post(b"X: \x7f\r\n", _LENGTH),
    "line-feeds-only": _post(_LENGTH).replace(b"\r\n", b"\n"),
    "length-negative": _post(b"Content-Length: -1\r\n"),
    "length-a-word": _post(b"Content-Length: many\r\n"),
    "length-hexadecimal": _post(b"Content-Length: 0x20\r\n"),
    "length-with-a-plus": _post(b"Content-Length: +32\r\n"),
    "length-of-30-digits": _post(b"Content-Length: %d\r\n" % 10**30),
    "length-a-list": _post(b"Content-Length: 32, 32\r\n"),
    "two-lengths": _post(_LENGTH, b"Content-Length: 5\r\n"),
    "the-same-length-twice": _post(_LENGTH, _LENGTH),
    "a-length-and-chunks": _post(_LENGTH, _CHUNKED, body=_CHUNKS),
    "chunks-and-a-length": _post(_CHUNKED, _LENGTH, body=_CHUNKS),
    "coding-not-chunked": _post(b"Transfer-Encoding: gzip\r\n"),
    "coding-unknown": _post(b"Transfer-Encoding: xchunked\r\n", body=_CHUNKS),
    "coding-after-chunked": _post(b"Transfer-Encoding: chunked, gzip\r\n", body=_CHUNKS),
    "chunk-without-a-size": _post(_CHUNKED, body=b"zz\r\n" + _BODY),
    "chunk-of-a-negative-size": _post(_CHUNKED, body=b"-20\r\n" + _BODY),
    "chunk-of-20-digits": _post(_CHUNKED, body=b"f" * 20 + b"\r\n" + _BODY),
    "chunk-longer-than-its-size": _post(_CHUNKED, body=b"5\r\n" + _BODY + b"\r\n0\r\n\r\n"),
    "body-without-a-length": _post(),
    "body-longer-than-its-length": _post(b"Content-Length: 5\r\n"),
    "a-word-behind-a-request": _get(b"/health/live") + b"hello\r\n\r\n",
}

# Answered in the form of the path.
ANSWERED: dict[str, tuple[bytes, int, str]] = {
    # Lengths and waiting for our word.
    "declares-a-terabyte": (
        _post(b"Expect: 100-continue\r\n", b"Content-Length: 1000000000000\r\n", body=b""),
        413,
        "body: wanted at most 33554432 bytes, got 1000000000000",
    ),
    "no-body": (_post(b"Content-Length: 0\r\n", body=b""), 400, "body: wanted JSON"),
    "nothing-in-chunks": (_post(_CHUNKED, body=b"0\r\n\r\n"), 400, "body: wanted JSON"),
    # Paths.
    "out-of-the-root": (_get(b"/../../etc/passwd"), 404, _NO_PATH),
    "out-of-the-root-encoded": (_get(b"/%2e%2e/%2e%2e/etc/passwd"), 404, _NO_PATH),
    "out-of-the-docs": (_get(b"/docs/../../etc/passwd"), 404, _NO_PATH),
    "a-file-of-ours": (_get(b"/pyproject.toml"), 404, _NO_PATH),
    "nul-encoded": (_get(b"/info%00"), 404, _NO_PATH),
    "not-utf-8-encoded": (_get(b"/%ff%fe"), 404, _NO_PATH),
    "percent-without-digits": (_get(b"/info%zz"), 404, _NO_PATH),
    "line-end-encoded": (_get(b"/info%0d%0aX: y".replace(b" ", b"%20")), 404, _NO_PATH),
    "two-slashes": (_post(_LENGTH, first=b"POST //embedding HTTP/1.1\r\n"), 404, _NO_PATH),
    "a-slash-at-the-end": (_post(_LENGTH, first=b"POST /embedding/ HTTP/1.1\r\n"), 404, _NO_PATH),
    "in-capitals": (_post(_LENGTH, first=b"POST /EMBEDDING HTTP/1.1\r\n"), 404, _NO_PATH),
    "all": (b"OPTIONS * HTTP/1.1\r\n" + _HOST + b"\r\n", 404, _NO_PATH),
    "a-path-of-60000": (_get(b"/" + b"a" * 60_000), 404, _NO_PATH),
    "a-model-out-of-the-root": (_get(b"/v1/models/../../etc/passwd"), 404, "model: wanted sentence-transformers/"),
    "a-model-of-nul": (_get(b"/v1/models/%00"), 404, "model: wanted sentence-transformers/"),
    "a-model-that-is-long": (_get(b"/v1/models/" + b"a" * 60_000), 404, "model: wanted sentence-transformers/"),
    # Triton's management is not here.
    "triton-index": (_post(_LENGTH, first=b"POST /v2/repository/index HTTP/1.1\r\n"), 404, _NO_PATH),
    "triton-load": (_post(_LENGTH, first=b"POST /v2/repository/models/bert/load HTTP/1.1\r\n"), 404, _NO_PATH),
    "triton-unload": (_post(_LENGTH, first=b"POST /v2/repository/models/bert/unload HTTP/1.1\r\n"), 404, _NO_PATH),
    "triton-shared-memory": (_get(b"/v2/systemsharedmemory/status"), 404, _NO_PATH),
    "triton-cuda-memory": (_get(b"/v2/cudasharedmemory/status"), 404, _NO_PATH),
    "triton-logging": (_post(_LENGTH, first=b"POST /v2/logging HTTP/1.1\r\n"), 404, _NO_PATH),
    "triton-trace": (_post(_LENGTH, first=b"POST /v2/trace/setting HTTP/1.1\r\n"), 404, _NO_PATH),
    "triton-infer": (_post(_LENGTH, first=b"POST /v2/models/embedding/infer HTTP/1.1\r\n"), 404, _NO_PATH),
    "triton-statistics": (_get(b"/v2/models/stats"), 404, _NO_PATH),
    # Another protocol is offered: this one goes on.
    "websocket": (
        _get(b"/embedding", b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"),
        405,
        "wanted POST, got GET",
    ),
    "websocket-by-post": (
        _post(b"Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n", body=b"{}"),
        400,  # who asks for another protocol has no body in this one
        "body: wanted JSON",
    ),
    "http-2-by-upgrade": (
        _get(
            b"/embedding",
            b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMA\r\n",
        ),
        405,
        "wanted POST, got GET",
    ),
    "another-method-by-header": (
        _get(b"/embedding", b"X-HTTP-Method-Override: POST\r\n"),
        405,
        "wanted POST, got GET",
    ),
}

# The sender goes away in the middle: there is nobody to answer.
CUT_OFF: dict[str, bytes] = {
    "nothing": b"",
    "in-the-first-line": b"POST /emb",
    "in-the-headers": _POST + b"Host: he",
    "before-the-body": _post(_LENGTH, body=b""),
    "in-the-body": _post(_LENGTH, body=_BODY[:10]),
    "in-a-chunk-size": _post(_CHUNKED, body=b"2"),
    "in-a-chunk": _post(_CHUNKED, body=b"20\r\n{"),
    "in-an-endless-chunk": _post(_CHUNKED, body=b"fffffffffffffff0\r\n" + _BODY),
    "before-the-last-chunk": _post(_CHUNKED, body=b"%x\r\n%b\r\n" % (len(_BODY), _BODY)),
}

# Methods that a path does not have: (path, methods, those that it has).
NO_METHOD: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("/embedding", ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"), "POST"),
    ("/v1/embeddings", ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"), "POST"),
    ("/embed", ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"), "POST"),
    ("/tokenize", ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"), "POST"),
    ("/", ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"), "POST"),
    ("/info", ("POST", "PUT", "DELETE"), "GET"),
    ("/v1/models", ("POST", "DELETE"), "GET"),
    ("/health/ready", ("POST", "DELETE"), "GET"),
    ("/metrics", ("POST", "DELETE"), "GET"),
)
