"""Requests to Triton's own ports that it does not take: KServe's JSON, binary tensors, headers, and gRPC's messages.

name -> (what is sent, status, part of the message). What reaches our steps is refused in our words; what Triton's
parser refuses itself is in Triton's, and is pinned as it is in 2.51: 500 often stands for the sender's mistake there.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

from tests.garbage.bodies import MARKER

_LEFT_OUT = object()
_REGION = {"shared_memory_region": "x", "shared_memory_byte_size": 8}
_ONE_OF = "Input must set only one of the following fields: 'data'"


def infer(text: dict[str, Any] | None = None, limit: dict[str, Any] | None = None, **top: object) -> dict[str, Any]:
    """A good request with these changes to its two tensors, and these fields beside them."""
    tensors = (
        {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": [MARKER]} | (text or {}),
        {"name": "MAX_LENGTH", "shape": [1, 1], "datatype": "INT32", "data": [128]} | (limit or {}),
    )
    inputs = [{name: value for name, value in each.items() if value is not _LEFT_OUT} for each in tensors]
    return {"inputs": inputs} | top


def _text(status: int, message: str, **changes: object) -> tuple[Any, int, str]:
    return infer(changes), status, message


def _limit(status: int, message: str, **changes: object) -> tuple[Any, int, str]:
    return infer(limit=changes), status, message


def _in_region(**changes: object) -> dict[str, object]:
    return {"data": _LEFT_OUT, "parameters": _REGION | changes}


_NO_ARRAY = "attempt to access JSON non-array as array"
_NO_STRING = "attempt to access JSON non-string as string"
_NO_SIZE = "attempt to access JSON non-unsigned-integer as unsigned-integer"
_NO_INTEGER = "attempt to access JSON non-signed-integer as signed-integer"
_NO_JSON = "failed to parse the request JSON buffer"
_NO_INPUTS = "Unable to parse 'inputs'"
_RANGE = "MAX_LENGTH[0]: wanted 2 to 512 tokens, got "
_SHAPE = "unexpected shape for input "

# POST /v2/models/embedding/infer; a string is sent as it is.
JSON_TENSORS: dict[str, tuple[Any, int, str]] = {
    "empty": ("", 400, "Raw request must only have 1 input"),
    "a-space": (" ", 500, _NO_JSON),
    "a-word": (MARKER, 500, _NO_JSON),
    "a-nul": ("\x00", 500, _NO_JSON),
    "truncated": ('{"inputs":[{"name":"TEXT"', 500, _NO_JSON),
    "two-values": (json.dumps(infer()) * 2, 500, _NO_JSON),
    "a-comment": ('{"inputs": [] /* */}', 500, _NO_JSON),
    "a-lone-surrogate": (json.dumps(infer({"data": ["\ud800"]})), 500, _NO_JSON),
    "1000-brackets": ("[" * 1_000, 500, _NO_JSON),
    "200000-brackets": ("[" * 200_000, 500, _NO_JSON),
    "2000000-brackets": ("[" * 2_000_000, 500, _NO_JSON),
    "100000-objects": ('{"a":' * 100_000, 500, _NO_JSON),
    "an-object": ({}, 500, _NO_INPUTS),
    "null": ("null", 500, _NO_INPUTS),
    "a-list": ([], 500, _NO_INPUTS),
    "a-number": ("7", 500, _NO_INPUTS),
    "inputs-nan": ('{"inputs": NaN}', 500, _NO_ARRAY),
    "inputs-null": ({"inputs": None}, 500, _NO_ARRAY),
    "inputs-a-string": ({"inputs": MARKER}, 500, _NO_ARRAY),
    "inputs-an-object": ({"inputs": {}}, 500, _NO_ARRAY),
    "inputs-none": ({"inputs": []}, 400, "missing required input(s) ['TEXT']"),
    "inputs-of-numbers": ({"inputs": [1]}, 400, _ONE_OF),
    "inputs-of-null": ({"inputs": [None]}, 400, _ONE_OF),
    "inputs-of-lists": ({"inputs": [[]]}, 400, _ONE_OF),
    "input-twice": ({"inputs": [infer()["inputs"][0]] * 2}, 400, "input 'TEXT' already exists"),
    "name-missing": _text(500, "Unable to parse 'name'", name=_LEFT_OUT),
    "name-null": _text(500, _NO_STRING, name=None),
    "name-a-number": _text(500, _NO_STRING, name=7),
    "name-empty": _text(400, "unexpected inference input ''", name=""),
    "name-unknown": _text(400, "unexpected inference input 'OTHER'", name="OTHER"),
    "shape-missing": _text(500, "Unable to parse 'shape'", shape=_LEFT_OUT),
    "shape-null": _text(500, _NO_ARRAY, shape=None),
    "shape-a-string": _text(500, _NO_ARRAY, shape="1,1"),
    "shape-of-strings": _text(500, _NO_SIZE, shape=["1", "1"]),
    "shape-of-floats": _text(500, _NO_SIZE, shape=[1.0, 1.0]),
    "shape-negative": _text(500, _NO_SIZE, shape=[-1, 1]),
    "shape-empty": _text(400, "input 'TEXT' has no shape", shape=[]),
    "shape-of-rank-1": _text(400, _SHAPE, shape=[1]),
    "shape-of-rank-3": _text(400, _SHAPE, shape=[1, 1, 1]),
    "shape-of-two-columns": _text(400, _SHAPE, shape=[1, 2], data=["a", "b"]),
    "shape-of-no-rows": _text(400, "batch size does not match", shape=[0, 1]),
    "shape-of-2**124": _text(400, "batch size does not match", shape=[2**62, 2**62]),
    "shape-of-2**63": _text(400, "batch size does not match", shape=[2**63, 1]),
    "shape-over-the-batch": (
        infer({"shape": [65, 1], "data": ["a"] * 65}, {"shape": [65, 1], "data": [128] * 65}),
        400,
        "batch-size must be <= 64",
    ),
    "type-missing": _text(500, "Unable to parse 'datatype'", datatype=_LEFT_OUT),
    "type-null": _text(500, _NO_STRING, datatype=None),
    "type-unknown": _text(400, "invalid datatype", datatype="STRING"),
    "type-in-small-letters": _text(400, "invalid datatype", datatype="bytes"),
    "type-of-numbers": _text(400, "data-type is 'INT32'", datatype="INT32", data=[1]),
    "data-missing": _text(400, _ONE_OF, data=_LEFT_OUT),
    "data-null": _text(500, _NO_ARRAY, data=None),
    "data-a-string": _text(500, _NO_ARRAY, data=MARKER),
    "data-an-object": _text(500, _NO_ARRAY, data={"0": MARKER}),
    "data-none": _text(400, "expected 1 string elements", data=[]),
    "data-too-much": _text(400, "unexpected number of string elements 2", data=["a", "b"]),
    "data-nested-too-much": _text(400, "unexpected number of string elements 2", data=[["a", "b"]]),
    "data-of-numbers": _text(500, _NO_STRING, data=[1]),
    "data-of-null": _text(500, _NO_STRING, data=[None]),
    "data-of-true": _text(500, _NO_STRING, data=[True]),
    "data-of-objects": _text(500, _NO_STRING, data=[{}]),
    "data-and-size": _text(400, _ONE_OF, parameters={"binary_data_size": 19}),
    "limit-0": _limit(400, _RANGE + "0", data=[0]),
    "limit-1": _limit(400, _RANGE + "1", data=[1]),
    "limit-negative": _limit(400, _RANGE + "-1", data=[-1]),
    "limit-above-the-positions": _limit(400, _RANGE + "513", data=[513]),
    # Triton's parser keeps the low 32 bits.
    "limit-2**31": _limit(400, _RANGE + "-2147483648", data=[2**31]),
    "limit-10**12": _limit(400, _RANGE + "-727379968", data=[10**12]),
    "limit-2**63": _limit(500, _NO_INTEGER, data=[2**63]),
    "limit-1.5": _limit(500, _NO_INTEGER, data=[1.5]),
    "limit-a-string": _limit(500, _NO_INTEGER, data=["128"]),
    "limit-null": _limit(500, _NO_INTEGER, data=[None]),
    "limit-true": _limit(500, _NO_INTEGER, data=[True]),
    "limit-of-64-bits": _limit(400, "data-type is 'INT64'", datatype="INT64"),
    "limit-of-floats": _limit(400, "data-type is 'FP32'", datatype="FP32", data=[128.0]),
    "limit-for-two": _limit(400, "batch size does not match", shape=[2, 1], data=[128, 128]),
    "limit-of-two-columns": _limit(400, _SHAPE, shape=[1, 2], data=[128, 128]),
    "texts-for-one-limit": _text(400, "batch size does not match", shape=[2, 1], data=["a", "b"]),
    "outputs-null": (infer(outputs=None), 500, _NO_ARRAY),
    "outputs-a-string": (infer(outputs="EMBEDDING"), 500, _NO_ARRAY),
    "outputs-without-name": (infer(outputs=[{}]), 500, "Unable to parse 'name'"),
    "outputs-unknown": (infer(outputs=[{"name": "OTHER"}]), 400, "unexpected inference output 'OTHER'"),
    "outputs-of-minus-one-class": (
        infer(outputs=[{"name": "EMBEDDING", "parameters": {"classification": -1}}]),
        500,
        _NO_SIZE,
    ),
    # Nobody could register a region, so there is none to read from or to write to.
    "out-of-shared-memory": _text(404, "Unable to find shared memory region", **_in_region()),
    "out-of-shared-memory-far-off": _text(
        404, "Unable to find shared memory region", **_in_region(shared_memory_offset=2**63)
    ),
    "out-of-shared-memory-backwards": _text(500, _NO_SIZE, **_in_region(shared_memory_byte_size=-8)),
    "into-shared-memory": (
        infer(outputs=[{"name": "EMBEDDING", "parameters": _REGION}]),
        404,
        "Unable to find shared memory region",
    ),
    "parameters-null": (infer(parameters=None), 500, "failed to get request params"),
    "parameters-a-list": (infer(parameters=[]), 500, "failed to get request params"),
    "parameters-of-objects": (infer(parameters={"a": {}}), 400, "parameter 'a' has invalid type"),
    "parameters-of-triton": (infer(parameters={"triton_x": 1}), 400, "reserved for Triton"),
    "priority-negative": (infer(parameters={"priority": -1}), 500, _NO_SIZE),
    "timeout-a-string": (infer(parameters={"timeout": "x"}), 500, _NO_SIZE),
    "id-a-number": (infer(id=7), 500, _NO_STRING),
}

_PACKED = len(MARKER).to_bytes(4, "little") + MARKER.encode()


def _binary(raw: bytes, status: int, message: str, size: int | None = None, head: object = None) -> tuple[Any, ...]:
    """A TEXT tensor as bytes behind the JSON; `size` and `head` are what is said of its and of the JSON's length."""
    tensor = {"data": _LEFT_OUT, "parameters": {"binary_data_size": len(raw) if size is None else size}}
    json_part = json.dumps(infer(tensor)).encode()
    headers = {"Inference-Header-Content-Length": str(len(json_part) if head is None else head)}
    return json_part + raw, headers, status, message


_DEDUCED = "Raw request must only have 1 input"

# The same path: (body, headers, status, part of the message).
BINARY_TENSORS: dict[str, tuple[Any, ...]] = {
    "not-utf-8": _binary(b"\x02\x00\x00\x00a\xff", 400, "TEXT[0]: wanted UTF-8, got byte 0xff at 1"),
    "a-surrogate": _binary(b"\x03\x00\x00\x00\xed\xa0\x80", 400, "TEXT[0]: wanted UTF-8"),
    "nothing": _binary(b"", 400, "expected 1 string elements"),
    "no-length": _binary(b"abc", 400, "incomplete string length indicator"),
    "length-of-2-gigabytes": _binary(b"\xff\xff\xff\x7fabc", 400, "expecting string of length 2147483647"),
    "length-of-minus-one": _binary(b"\xff\xff\xff\xffabc", 400, "expecting string of length 4294967295"),
    "length-too-short": _binary(b"\x01\x00\x00\x00" + b"\x00" * 9, 400, "unexpected number of string elements"),
    "more-bytes-than-said": _binary(_PACKED, 400, "unexpected additional input data", size=10),
    "fewer-bytes-than-said": _binary(_PACKED, 400, "unexpected size for input 'TEXT'", size=1_000),
    "4-exabytes-said": _binary(_PACKED, 400, "unexpected size for input 'TEXT'", size=2**62),
    "minus-one-byte-said": _binary(_PACKED, 500, _NO_SIZE, size=-1),
    "head-of-minus-one": _binary(_PACKED, 400, "inference header size should be in range", head=-1),
    "head-beyond-the-body": _binary(_PACKED, 400, "inference header size should be in range", head=10**6),
    "head-of-30-digits": _binary(_PACKED, 400, "inference header size should be in range", head=10**30),
    "head-a-word": _binary(_PACKED, 400, _DEDUCED, head="many"),
    "head-too-short": _binary(_PACKED, 500, _NO_JSON, head=10),
    "gzip-that-is-none": (b"xx", {"Content-Encoding": "gzip"}, 400, _DEDUCED),
    "gzip-cut-off": (
        gzip.compress(json.dumps(infer(id="x" * 1000)).encode(), mtime=0)[:-40],
        {"Content-Encoding": "gzip"},
        500,
        _NO_JSON,
    ),
    "an-unknown-encoding": (b"xx", {"Content-Encoding": "br"}, 501, "Unsupported compression type"),
}

# Other paths of Triton's HTTP port: (method, path, status, part of the message).
PATHS: dict[str, tuple[str, str, int, str]] = {
    "no-such-model": ("POST", "/v2/models/nope/infer", 404, "unknown model: 'nope'"),
    "no-such-version": ("POST", "/v2/models/embedding/versions/7/infer", 404, "version 7 is not found"),
    "version-a-word": ("POST", "/v2/models/embedding/versions/x/infer", 404, "Not Found"),
    "version-of-40-digits": ("POST", f"/v2/models/embedding/versions/{'9' * 40}/infer", 400, "integral value > 0"),
    "out-of-the-root": ("GET", "/v2/models/..%2f..%2fetc%2fpasswd/config", 404, "unknown model"),
    "infer-by-get": ("GET", "/v2/models/embedding/infer", 405, "Method Not Allowed"),
    "no-such-path": ("GET", "/nope", 404, "Not Found"),
}


def message(text: dict[str, Any] | None = None, limit: dict[str, Any] | None = None, **top: object) -> dict[str, Any]:
    """A good ModelInferRequest, as JSON of protobuf, with these changes. Bytes are in base64: YQ== is "a"."""
    tensors = (
        {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "contents": {"bytes_contents": ["YQ=="]}} | (text or {}),
        {"name": "MAX_LENGTH", "shape": [1, 1], "datatype": "INT32", "contents": {"int_contents": [128]}}
        | (limit or {}),
    )
    inputs = [{name: value for name, value in each.items() if value is not _LEFT_OUT} for each in tensors]
    return {"model_name": "embedding", "inputs": inputs} | top


def _raw(*raw: str) -> dict[str, Any]:
    return message({"contents": _LEFT_OUT}, {"contents": _LEFT_OUT}, raw_input_contents=list(raw))


_128 = "gAAAAA=="
_A = "AQAAAGE="

# gRPC's ModelInfer.
MESSAGES: dict[str, tuple[dict[str, Any], str, str]] = {
    "empty": ({}, "NOT_FOUND", "unknown model"),
    "no-model": (message(model_name=""), "NOT_FOUND", "unknown model"),
    "no-such-model": (message(model_name="nope"), "NOT_FOUND", "unknown model: 'nope'"),
    "a-model-out-of-the-root": (message(model_name="../../etc"), "NOT_FOUND", "unknown model"),
    "no-such-version": (message(model_version="7"), "NOT_FOUND", "version 7 is not found"),
    "version-a-word": (message(model_version="x"), "INVALID_ARGUMENT", "integral value > 0"),
    "version-of-40-digits": (message(model_version="9" * 40), "INVALID_ARGUMENT", "integral value > 0"),
    "no-inputs": (message(inputs=[]), "INVALID_ARGUMENT", "missing required input(s) ['TEXT']"),
    "an-empty-input": (message(inputs=[{}]), "INVALID_ARGUMENT", ""),
    "no-name": (message({"name": ""}), "INVALID_ARGUMENT", "unexpected inference input ''"),
    "an-unknown-input": (message({"name": "OTHER"}), "INVALID_ARGUMENT", "unexpected inference input 'OTHER'"),
    "an-input-twice": (message(inputs=[message()["inputs"][0]] * 2), "INVALID_ARGUMENT", "already exists"),
    "type-missing": (message({"datatype": ""}), "INVALID_ARGUMENT", ""),
    "type-unknown": (message({"datatype": "STRING"}), "INVALID_ARGUMENT", ""),
    "type-of-numbers": (message({"datatype": "INT32", "contents": {"int_contents": [1]}}), "INVALID_ARGUMENT", "INT32"),
    "type-not-that-of-the-data": (message({"contents": {"int_contents": [1]}}), "INVALID_ARGUMENT", ""),
    "shape-empty": (message({"shape": []}), "INVALID_ARGUMENT", ""),
    "shape-of-rank-1": (message({"shape": [1]}), "INVALID_ARGUMENT", _SHAPE),
    "shape-of-rank-3": (message({"shape": [1, 1, 1]}), "INVALID_ARGUMENT", _SHAPE),
    "shape-of-no-rows": (message({"shape": [0, 1]}), "INVALID_ARGUMENT", ""),
    "shape-negative": (message({"shape": [-1, 1]}), "INVALID_ARGUMENT", ""),
    "shape-of-2**62": (message({"shape": [2**62, 1]}), "INVALID_ARGUMENT", ""),
    "shape-of-2**62-twice": (message({"shape": [2**62, 2**62]}), "INVALID_ARGUMENT", ""),
    "no-data": (message({"contents": {}}), "INVALID_ARGUMENT", ""),
    "too-much-data": (message({"contents": {"bytes_contents": ["YQ==", "YQ=="]}}), "INVALID_ARGUMENT", ""),
    "not-utf-8": (message({"contents": {"bytes_contents": ["Yf8="]}}), "INVALID_ARGUMENT", "TEXT[0]: wanted UTF-8"),
    "limit-0": (message(limit={"contents": {"int_contents": [0]}}), "INVALID_ARGUMENT", _RANGE + "0"),
    "limit-negative": (message(limit={"contents": {"int_contents": [-1]}}), "INVALID_ARGUMENT", _RANGE + "-1"),
    "limit-513": (message(limit={"contents": {"int_contents": [513]}}), "INVALID_ARGUMENT", _RANGE + "513"),
    "limit-for-two": (
        message(limit={"shape": [2, 1], "contents": {"int_contents": [8, 8]}}),
        "INVALID_ARGUMENT",
        "batch size does not match",
    ),
    "an-unknown-output": (message(outputs=[{"name": "OTHER"}]), "INVALID_ARGUMENT", "unexpected inference output"),
    "an-output-without-name": (message(outputs=[{}]), "INVALID_ARGUMENT", "unexpected inference output"),
    "raw-none": (_raw(), "INVALID_ARGUMENT", ""),
    "raw-of-one-only": (_raw(_A), "INVALID_ARGUMENT", ""),
    "raw-and-contents": (message(raw_input_contents=[_A, _128]), "INVALID_ARGUMENT", ""),
    "raw-without-length": (_raw("YWJj", _128), "INVALID_ARGUMENT", "incomplete string length indicator"),
    "raw-of-2-gigabytes": (_raw("////f2FiYw==", _128), "INVALID_ARGUMENT", "length 2147483647"),
    "raw-limit-of-3-bytes": (_raw(_A, "gAAA"), "INVALID_ARGUMENT", ""),
    "raw-limit-of-8-bytes": (_raw(_A, "gAAAAIAAAAA="), "INVALID_ARGUMENT", ""),
    "out-of-shared-memory": (
        message(
            {
                "contents": _LEFT_OUT,
                "parameters": {
                    "shared_memory_region": {"string_param": "x"},
                    "shared_memory_byte_size": {"int64_param": 8},
                },
            }
        ),
        "NOT_FOUND",
        "Unable to find shared memory region",
    ),
    "parameters-of-triton": (message(parameters={"triton_x": {"int64_param": 1}}), "INVALID_ARGUMENT", "reserved"),
    "priority-a-string": (message(parameters={"priority": {"string_param": "x"}}), "INVALID_ARGUMENT", ""),
}

# What is no message at all.
NO_MESSAGES: dict[str, bytes] = {
    "bytes-of-ff": b"\xff" * 100,
    "json": json.dumps(infer()).encode(),
    "a-field-cut-off": b"\x0a\x7fembedding",
    "a-length-of-2-gigabytes": b"\x0a\xff\xff\xff\xff\x07",
    "groups-without-end": b"\x0b" * 10_000,
}
