"""JSON objects that a route does not take, by route: name -> (fields, status, kind, start of the message).

`kind` is what the route's form tells beside the message: the error's type in our own, the field that is wrong
(`param`) in OpenAI's, `error_type` in TEI's.
"""

from __future__ import annotations

from typing import Any

from tests.garbage.bodies import MARKER

Fields = dict[str, tuple[Any, int, str | None, str]]

_RANGE = "max_length: wanted an integer from 2 to 512 (the model's positions), got "
_INTEGER = "max_length: wanted an integer, got "
_FLAG = "wanted true or false, got "
_LONG = "a" * (2 * 1024 * 1024 + 1)


def _own(message: str, **fields: object) -> tuple[Any, int, str | None, str]:
    return {"texts": [MARKER], **fields}, 422, "invalid_input", message


OWN: Fields = {
    "no-texts": ({}, 422, "invalid_input", "texts: wanted this field, got none; the fields are texts, max_length, "),
    "misspelt": ({"text": [MARKER]}, 422, "invalid_input", "texts: wanted this field, got none"),
    "in-capitals": ({"TEXTS": [MARKER]}, 422, "invalid_input", "texts: wanted this field, got none"),
    "texts-a-string": _own("texts: wanted a list of strings, got a string", texts=MARKER),
    "texts-null": _own("texts: wanted a list of strings, got null", texts=None),
    "texts-a-number": _own("texts: wanted a list of strings, got the integer 7", texts=7),
    "texts-true": _own("texts: wanted a list of strings, got true", texts=True),
    "texts-an-object": _own("texts: wanted a list of strings, got an object", texts={"0": MARKER}),
    "texts-empty": _own("texts: wanted at least one text, got an empty list", texts=[]),
    "item-a-number": _own("texts[3]: wanted a string, got the integer 7", texts=["a", "b", "c", 7]),
    "item-a-float": _own("texts[0]: wanted a string, got the number 0.5", texts=[0.5]),
    "item-null": _own("texts[0]: wanted a string, got null", texts=[None]),
    "item-a-list": _own("texts[1]: wanted a string, got a list", texts=["a", [MARKER]]),
    "item-an-empty-list": _own("texts[0]: wanted a string, got an empty list", texts=[[]]),
    "item-an-object": _own("texts[0]: wanted a string, got an object", texts=[{"text": MARKER}]),
    "item-true": _own("texts[0]: wanted a string, got true", texts=[True]),
    "last-of-many": _own("texts[9999]: wanted a string, got null", texts=["a"] * 9999 + [None]),
    "too-many-texts": _own("texts: wanted at most 10000, got 10001", texts=["a"] * 10_001),
    "too-long": _own("texts[1]: wanted at most 2097152 characters, got 2097153", texts=["a", _LONG]),
    "max_length-0": _own(_RANGE + "0", max_length=0),
    "max_length-1": _own(_RANGE + "1", max_length=1),
    "max_length-negative": _own(_RANGE + "-5", max_length=-5),
    "max_length-above-the-positions": _own(_RANGE + "513", max_length=513),
    "max_length-2**31": _own(_RANGE + "2147483648", max_length=2**31),
    "max_length-2**32+128": _own(_RANGE + "4294967424", max_length=2**32 + 128),
    "max_length-2**63": _own(_RANGE + "9223372036854775808", max_length=2**63),
    "max_length-minus-2**63": _own(_RANGE + "-9223372036854775808", max_length=-(2**63)),
    "max_length-10**30": _own(_INTEGER + "the number 1e+30", max_length=10**30),
    "max_length-1.5": _own(_INTEGER + "the number 1.5", max_length=1.5),
    "max_length-128.0": _own(_INTEGER + "the number 128.0", max_length=128.0),
    "max_length-a-string": _own(_INTEGER + "a string", max_length="128"),
    "max_length-null": _own(_INTEGER + "null", max_length=None),
    "max_length-true": _own(_INTEGER + "true", max_length=True),
    "max_length-a-list": _own(_INTEGER + "a list", max_length=[128]),
    "max_length-an-object": _own(_INTEGER + "an object", max_length={}),
    "normalize-1": _own(f"normalize: {_FLAG}the integer 1", normalize=1),
    "normalize-a-string": _own(f"normalize: {_FLAG}a string", normalize="true"),
    "normalize-null": _own(f"normalize: {_FLAG}null", normalize=None),
    "normalize-a-list": _own(f"normalize: {_FLAG}an empty list", normalize=[]),
    "unknown": _own("truncate: wanted no other fields than texts, max_length, normalize, got this", truncate=True),
    "unknown-and-long": _own("x" * 40 + ": wanted no other fields than", **{"x" * 100_000: MARKER}),
    "unknown-and-odd": _own("\x00\n\x1b[31m: wanted no other fields than", **{"\x00\n\x1b[31m": 1}),
    "too-many-fields": _own("body: wanted at most 1000 fields, got 1001", **{str(number): 1 for number in range(1000)}),
    "of-another-interface": ({"inputs": [MARKER]}, 422, "invalid_input", "texts: wanted this field, got none"),
    "prototype": _own("__proto__: wanted no other fields than", __proto__={"texts": [MARKER]}),
}


def _openai(param: str, message: str, **fields: object) -> tuple[Any, int, str | None, str]:
    return {"input": MARKER, **fields}, 400, param, message


_IDS = "input: wanted texts (token ids are of another model's tokenizer"
_FORMAT = "encoding_format: wanted 'float' or 'base64', got "
_OF_DIMENSIONS = "dimensions: wanted an integer from 1 to 384 (the model's), got "

OPENAI: Fields = {
    "no-input": ({"model": "m"}, 400, "input", "input: wanted this field, got none"),
    "input-null": _openai("input", "input: wanted a list of strings, got null", input=None),
    "input-true": _openai("input", "input: wanted a list of strings, got true", input=True),
    "input-a-number": _openai("input", "input: wanted a list of strings, got the integer 7", input=7),
    "input-an-object": _openai("input", "input: wanted a list of strings, got an object", input={"text": MARKER}),
    "input-an-empty-list": _openai("input", "input: wanted at least one text, got an empty list", input=[]),
    "empty-string": _openai("input", "input[0]: wanted a text, got an empty string", input=""),
    "an-empty-string-among-others": _openai("input", "input[1]: wanted a text, got an empty", input=["a", ""]),
    "item-null": _openai("input", "input[1]: wanted a string, got null", input=["a", None]),
    "item-true": _openai("input", "input[0]: wanted a string, got true", input=[True]),
    "item-an-object": _openai("input", "input[0]: wanted a string, got an object", input=[{"text": MARKER}]),
    "ids": _openai("input", _IDS, input=[1, 2, 3]),
    "lists-of-ids": _openai("input", _IDS, input=[[1, 2], [3]]),
    "ids-after-texts": _openai("input", "input[1]: wanted a string, got the integer 7", input=["a", 7]),
    "too-many": _openai("input", "input: wanted at most 10000, got 10001", input=["a"] * 10_001),
    "too-long": _openai("input", "input[0]: wanted at most 2097152 characters, got 2097153", input=_LONG),
    "model-a-number": _openai("model", "model: wanted a string, got the integer 5", model=5),
    "model-a-list": _openai("model", "model: wanted a string, got a list", model=[MARKER]),
    "format-unknown": _openai("encoding_format", _FORMAT + "a string", encoding_format="int8"),
    "format-a-number": _openai("encoding_format", _FORMAT + "the integer 1", encoding_format=1),
    "dimensions-0": _openai("dimensions", _OF_DIMENSIONS + "0", dimensions=0),
    "dimensions-negative": _openai("dimensions", _OF_DIMENSIONS + "-1", dimensions=-1),
    "dimensions-385": _openai("dimensions", _OF_DIMENSIONS + "385", dimensions=385),
    "dimensions-10**12": _openai("dimensions", _OF_DIMENSIONS + "1000000000000", dimensions=10**12),
    "dimensions-1.5": _openai("dimensions", "dimensions: wanted an integer, got the number 1.5", dimensions=1.5),
    "dimensions-a-string": _openai("dimensions", "dimensions: wanted an integer, got a string", dimensions="64"),
    "dimensions-true": _openai("dimensions", "dimensions: wanted an integer, got true", dimensions=True),
    "user-a-number": _openai("user", "user: wanted a string, got the integer 1", user=1),
}


def _tei(message: str, kind: str = "Validation", status: int = 422, **fields: object) -> tuple[Any, int, str, str]:
    return {"inputs": MARKER, **fields}, status, kind, message


_TEI: Fields = {
    "no-inputs": ({}, 422, "Validation", "inputs: wanted this field, got none"),
    "inputs-null": _tei("inputs: wanted a list of strings, got null", inputs=None),
    "inputs-a-number": _tei("inputs: wanted a list of strings, got the integer 7", inputs=7),
    "inputs-an-object": _tei("inputs: wanted a list of strings, got an object", inputs={"0": MARKER}),
    "ids": _tei("inputs[0]: wanted a string, got the integer 1", inputs=[1, 2]),
    "lists-of-ids": _tei("inputs[0]: wanted a string, got a list", inputs=[[1, 2]]),
    "item-null": _tei("inputs[1]: wanted a string, got null", inputs=["a", None]),
    "pairs": _tei("inputs[0]: wanted a string, got a list", inputs=[[MARKER, MARKER]]),
    "nothing": _tei("inputs: wanted at least one text, got an empty list", "Empty", 400, inputs=[]),
    "empty-string": _tei("inputs[0]: wanted a text, got an empty string", "Empty", 400, inputs=""),
    "an-empty-string-among-others": _tei("inputs[1]: wanted a text, got an em", "Empty", 400, inputs=["a", ""]),
    "too-many": _tei("inputs: wanted at most 10000, got 10001", inputs=["a"] * 10_001),
    "too-long": _tei("inputs[0]: wanted at most 2097152 characters, got 2097153", inputs=_LONG),
    "prompt-unknown": _tei("prompt_name: wanted none, as the model has no prompts, got", prompt_name="query"),
    "prompt-a-number": _tei("prompt_name: wanted a string, got the integer 1", prompt_name=1),
}

EMBED: Fields = {
    **_TEI,
    "normalize-1": _tei(f"normalize: {_FLAG}the integer 1", normalize=1),
    "normalize-a-string": _tei(f"normalize: {_FLAG}a string", normalize="true"),
    "truncate-a-string": _tei(f"truncate: {_FLAG}a string", truncate="yes"),
    "direction-unknown": _tei("truncation_direction: wanted 'left', ", truncation_direction="up"),
    "direction-a-number": _tei("truncation_direction: wanted 'left', ", truncation_direction=1),
    "dimensions-0": _tei(_OF_DIMENSIONS + "0", dimensions=0),
    "dimensions-385": _tei(_OF_DIMENSIONS + "385", dimensions=385),
    "dimensions-a-string": _tei("dimensions: wanted an integer, got a string", dimensions="64"),
    "longer-than-may-be-cut": _tei("inputs[0]: wanted at most 256 tokens, ", inputs="word " * 400, truncate=False),
    "much-longer": _tei("inputs[1]: wanted at most 256 tokens, ", inputs=["a", "x" * 64_001], truncate=False),
}

TOKENIZE: Fields = {
    **_TEI,
    "special-a-string": _tei(f"add_special_tokens: {_FLAG}a string", add_special_tokens="yes"),
    "longer-than-is-tokenized": _tei("inputs[1]: wanted at most 256 tokens, ", inputs=["a", "x" * 64_001]),
}

BY_ROUTE: dict[str, Fields] = {
    "/embedding": OWN,
    "/v1/embeddings": OPENAI,
    "/embed": EMBED,
    "/": EMBED,
    "/tokenize": TOKENIZE,
}
