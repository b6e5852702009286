"""Triton adapter of the tokenizer.

    TEXT (batch, 1) BYTES, MAX_LENGTH (batch, 1) INT32, TRUNCATE_LEFT (batch, 1) BOOL
    -> input_ids, attention_mask, token_type_ids (batch, sequence) INT64, TOKENS (batch, 1) INT32

All requests of an execute are tokenized in one call and padded by one rule (parameter `padding`, see config.pbtxt).
A request that cannot be tokenized gets INVALID_ARG and leaves the batch; the others are served.

Triton itself logs no request and no refusal, so this step does, with the request's id and never with a text: each
refusal, and with EMBEDDING_LOG_CALLS=1 (the server's --triton-log calls) each request.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenization
import triton_python_backend_utils as pb_utils

_PADDING_RULES = ("auto", "buckets", "batch", "request")


class InvalidRequestError(Exception):
    """The request cannot be tokenized: says what was wanted and what came."""


@dataclass
class _Texts:
    """What one request asks for; `ids` follow once all requests are read."""

    texts: list[str]
    limits: list[int]
    left: list[bool]
    ids: list[list[int]]


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        directory = Path(pb_utils.get_model_dir())
        # What clients may ask for.
        self._files = {
            "MANIFEST": (directory / "manifest.json").read_bytes(),
            "TOKENIZER": (directory / "tokenizer.json").read_bytes(),
        }
        manifest = json.loads(self._files["MANIFEST"])
        self._max_positions: int = manifest["max_positions"]
        self._default_limit: int = manifest["max_sequence_length"]
        self._pad_token_id: int = manifest["pad_token_id"]
        self._tokenizer = tokenization.load(directory / "tokenizer.json")
        # A text is never cut below its special tokens.
        self._min_limit: int = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        self._logs_calls = os.environ.get("EMBEDDING_LOG_CALLS") == "1"
        self._padding, self._buckets = _read_padding(json.loads(args["model_config"])["parameters"], manifest["graph"])

    def execute(self, requests: list) -> list:
        read = [self._read(request) for request in requests]
        good = [texts for texts in read if isinstance(texts, _Texts)]
        self._tokenize(good)
        self._log(requests, read)
        longest = max((len(ids) for texts in good for ids in texts.ids), default=0)
        return [
            self._respond(request, texts, longest)
            if isinstance(texts, _Texts)
            else pb_utils.InferenceResponse(error=pb_utils.TritonError(str(texts), pb_utils.TritonError.INVALID_ARG))
            for request, texts in zip(requests, read, strict=True)
        ]

    def _read(self, request: object) -> _Texts | InvalidRequestError:
        try:
            texts = _read_texts(pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy())
            tensor = pb_utils.get_input_tensor_by_name(request, "MAX_LENGTH")
            limits = self._read_limits(tensor, len(texts))
            tensor = pb_utils.get_input_tensor_by_name(request, "TRUNCATE_LEFT")
            left = [False] * len(texts) if tensor is None else tensor.as_numpy()[:, 0].tolist()
        except InvalidRequestError as error:
            return error
        return _Texts(texts, limits, left, [])

    def _read_limits(self, tensor: object | None, count: int) -> list[int]:
        if tensor is None:
            return [self._default_limit] * count
        limits = tensor.as_numpy()[:, 0].tolist()  # type: ignore[attr-defined]
        for row, limit in enumerate(limits):
            if not self._min_limit <= limit <= self._max_positions:
                raise InvalidRequestError(
                    f"MAX_LENGTH[{row}]: wanted {self._min_limit} to {self._max_positions} tokens, got {limit}"
                )
        return limits

    def _tokenize(self, requests: list[_Texts]) -> None:
        texts = [text for request in requests for text in request.texts]
        limits = [limit for request in requests for limit in request.limits]
        left = [each for request in requests for each in request.left]
        ids = iter(tokenization.encode(self._tokenizer, texts, limits, left))
        for request in requests:
            request.ids = [next(ids) for _ in request.texts]

    def _log(self, requests: list, read: list[_Texts | InvalidRequestError]) -> None:
        # The id comes last: it is the caller's own, and may hold anything. Triton escapes what would end the line.
        for request, texts in zip(requests, read, strict=True):
            if isinstance(texts, InvalidRequestError):
                pb_utils.Logger.log_warn(f"refused: {texts}; id={request.request_id()}")
            elif self._logs_calls:
                tokens = sum(len(ids) for ids in texts.ids)
                pb_utils.Logger.log_info(f"call: texts={len(texts.texts)} tokens={tokens} id={request.request_id()}")

    def _respond(self, request: object, texts: _Texts, longest: int) -> object:
        padded_to = max(len(ids) for ids in texts.ids) if self._padding == "request" else longest
        # No wider than the model has positions.
        width = min(tokenization.width(padded_to, self._buckets), self._max_positions)
        input_ids, attention_mask = tokenization.pad(texts.ids, width, self._pad_token_id)
        tokens = np.array([[len(ids)] for ids in texts.ids], dtype=np.int32)
        outputs = [
            pb_utils.Tensor("input_ids", input_ids),
            pb_utils.Tensor("attention_mask", attention_mask),
            pb_utils.Tensor("token_type_ids", np.zeros_like(input_ids)),
            pb_utils.Tensor("TOKENS", tokens),
        ]
        for name in self._files.keys() & request.requested_output_names():  # type: ignore[attr-defined]
            content = np.array([[self._files[name]]] * len(texts.texts), dtype=np.object_)
            if name == "TOKENIZER":
                # Megabytes; and who names no outputs asks for all of them.
                content[1:] = b""
            outputs.append(pb_utils.Tensor(name, content))
        return pb_utils.InferenceResponse(outputs)


def _read_padding(parameters: dict[str, dict[str, str]], graph: str) -> tuple[str, list[int]]:
    """The padding rule and its buckets (none for rules without), see config.pbtxt."""
    rule = parameters["padding"]["string_value"]
    if rule not in _PADDING_RULES:
        raise pb_utils.TritonModelException(
            f"parameter padding: wanted one of {', '.join(_PADDING_RULES)}, got {rule!r}"
        )
    text = parameters["padding_buckets"]["string_value"]
    try:
        buckets = [int(bucket) for bucket in text.split(",") if bucket.strip()]
    except ValueError as error:
        raise pb_utils.TritonModelException(
            f"parameter padding_buckets: wanted integers with commas between, got {text!r}"
        ) from error
    if rule == "auto":
        rule = "buckets" if graph == "packed" else "batch"
    return rule, sorted(buckets) if rule == "buckets" else []


def _read_texts(tensor: np.ndarray) -> list[str]:
    """Decode TEXT, (batch, 1) bytes."""
    texts = []
    for row, raw in enumerate(tensor[:, 0]):
        try:
            texts.append(raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise InvalidRequestError(
                f"TEXT[{row}]: wanted UTF-8, got byte 0x{raw[error.start]:02x} at {error.start}"
            ) from error
    return texts
