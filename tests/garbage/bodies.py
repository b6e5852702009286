"""Bodies that no route of the shim takes, whatever its fields are: name -> bytes, to be sent as application/json."""

from __future__ import annotations

import gzip
import json

# Stands in the texts of bad requests. No answer and no log may have it.
MARKER = "rumpelstilzchen"

_GOOD = json.dumps({"texts": [MARKER], "inputs": [MARKER], "input": [MARKER]})
_TEXT = MARKER.encode()


def _holding(text: bytes) -> bytes:
    """A body in which all routes' fields have this between their quotes."""
    return b'{"texts": ["%b"], "inputs": ["%b"], "input": ["%b"]}' % (text, text, text)


# 400: "body: wanted JSON in UTF-8, got something else".
NOT_JSON: dict[str, bytes] = {
    # Not even close.
    "nothing": b"",
    "a-space": b" ",
    "newlines": b"\r\n\r\n",
    "nul": b"\x00",
    "nuls": b"\x00" * 1000,
    "all-bytes": bytes(range(256)),
    "plain-text": _TEXT,
    "a-form": b"texts=" + _TEXT,
    "xml": b'<?xml version="1.0"?><texts><text>%b</text></texts>' % _TEXT,
    "html": b"<!DOCTYPE html><html>%b</html>" % _TEXT,
    "yaml": b"texts:\n  - %b\n" % _TEXT,
    "gzip": gzip.compress(_GOOD.encode(), mtime=0),
    "protobuf": b"\x0a\x09embedding\x12\x011",
    "a-pickle": b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00cposix\nsystem\n.",
    "a-shell-command": b"$(touch /tmp/x)",
    # Almost.
    "truncated-in-a-string": _GOOD[:20].encode(),
    "truncated-after-a-string": b'{"texts": ["%b"' % _TEXT,
    "truncated-before-the-last-brace": _GOOD[:-1].encode(),
    "two-values": _GOOD.encode() * 2,
    "a-value-and-a-word": _GOOD.encode() + b" x",
    "a-value-and-a-nul": _GOOD.encode() + b"\x00",
    "a-comma-too-many": b'{"texts": ["%b",]}' % _TEXT,
    "a-comma-too-few": b'{"texts": ["%b" "b"]}' % _TEXT,
    "no-colon": b'{"texts" ["%b"]}' % _TEXT,
    "wrong-bracket": b'{"texts": ["%b"}]' % _TEXT,
    "single-quotes": b"{'texts': ['%b']}" % _TEXT,
    "no-quotes": b"{texts: [%b]}" % _TEXT,
    "a-comment": b'{"texts": ["%b"] /* all */}' % _TEXT,
    "python": b'{"texts": ["%b"], "normalize": True}' % _TEXT,
    "a-key-that-is-a-number": b'{1: ["%b"]}' % _TEXT,
    # Numbers that JSON has not.
    "nan": b'{"texts": ["a"], "max_length": NaN}',
    "infinity": b'{"texts": ["a"], "max_length": Infinity}',
    "minus-infinity": b'{"texts": ["a"], "max_length": -Infinity}',
    "hexadecimal": b'{"texts": ["a"], "max_length": 0x80}',
    "leading-zero": b'{"texts": ["a"], "max_length": 0128}',
    "leading-plus": b'{"texts": ["a"], "max_length": +128}',
    "no-digit-before-the-point": b'{"texts": ["a"], "max_length": .5}',
    "no-digit-after-the-point": b'{"texts": ["a"], "max_length": 1.}',
    "out-of-range": b'{"texts": ["a"], "max_length": 1e999}',
    # Strings that JSON has not.
    "a-raw-nul": _holding(b"\x00"),
    "a-raw-newline": _holding(b"a\nb"),
    "a-raw-escape": _holding(b"\x1b[31m"),
    "an-unknown-escape": _holding(b"\\x41"),
    "a-short-escape": _holding(b"\\u12"),
    "a-lone-surrogate": _holding(b"\\ud800"),
    "a-lone-low-surrogate": _holding(b"\\udc00"),
    "surrogates-the-wrong-way-round": _holding(b"\\udc00\\ud800"),
    # Not UTF-8.
    "a-byte-that-utf-8-has-not": _holding(b"\xff"),
    "latin-1": _holding("é".encode("latin-1")),
    "overlong": _holding(b"\xc0\x80"),
    "a-surrogate-in-utf-8": _holding(b"\xed\xa0\x80"),
    "above-the-last-character": _holding(b"\xf4\x90\x80\x80"),
    "cut-within-a-character": _holding("字".encode()[:2]),
    "a-byte-order-mark": b"\xef\xbb\xbf" + _GOOD.encode(),
    "utf-16": _GOOD.encode("utf-16"),
    "utf-32": _GOOD.encode("utf-32"),
    # Deep.
    "1000-brackets": b"[" * 1000,
    "200000-brackets": b"[" * 200_000,
    "200000-brackets-closed": b'{"texts": %b}' % (b"[" * 200_000 + b"]" * 200_000),
    "100000-objects": b'{"texts":' * 100_000,
    "100000-objects-closed": b'{"texts":' * 100_000 + b"1" + b"}" * 100_000,
}

# 422, on /v1 400: "body: wanted a JSON object, got …".
NO_OBJECT: dict[str, tuple[bytes, str]] = {
    "null": (b"null", "null"),
    "true": (b"true", "true"),
    "false": (b" false ", "false"),
    "an-integer": (b"7", "the integer 7"),
    "a-number": (b"-1.5e3", "the number -1500.0"),
    "a-string": (json.dumps(MARKER).encode(), "a string"),
    "an-empty-list": (b"[]", "an empty list"),
    "a-list": (json.dumps([MARKER]).encode(), "a list"),
    "a-list-of-objects": (f"[{_GOOD}]".encode(), "a list"),
    "900-brackets-closed": (b"[" * 900 + b"]" * 900, "a list"),
}

# 415: a Content-Type, or none, that is not JSON's. The body would be good.
NO_JSON_TYPE: dict[str, str | None] = {
    "none": None,
    "empty": "",
    "text": "text/plain",
    "a-form": "application/x-www-form-urlencoded",
    "multipart": "multipart/form-data; boundary=x",
    "xml": "application/xml",
    "bytes": "application/octet-stream",
    "almost": "application/jsonx",
    "text-json": "text/json",
    "no-slash": "json",
    "no-subtype": "application/",
    "json-behind-a-comma": "text/plain, application/json",
    "two-types": "application/json, text/plain",
    "latin-1": "application/json; charset=latin-1",
    "utf-16": "application/json; charset=utf-16",
    "a-broken-parameter": "application/json; charset",
    "long": "application/" + "x" * 5000,
}

# 415: a Content-Encoding that is not undone here.
ENCODED: tuple[str, ...] = ("gzip", "deflate", "br", "zstd", "identity, gzip", "x")
