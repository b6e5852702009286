"""The served model's tokenizer, for what an embedding does not tell: the pieces of a text, and how many they are.

    Triton's tokenizer step, output TOKENIZER  ->  tokenizer.json  ->  tokenizers.Tokenizer, until the model changes

Loaded at the first question. Texts that are embedded are tokenized at Triton; here only those are that somebody asks
about. One thread at a time works at it, a slice of the texts per turn, so that questions neither take the model's
processors nor keep each other waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tokenizers import Tokenizer

from client import AsyncEmbeddingClient, InvalidInput

__all__ = ["ServedTokenizer", "Token", "check_characters", "count", "pieces"]

Result = TypeVar("Result")

# Tokenizing takes 1 to 3 µs a character, so a turn takes some 0.1 s.
_CHARACTERS_PER_TURN = 50_000
# The bound on texts that must not be cut, as TEI has it. Within it every character has a part in the vector, see
# model_repository/tokenizer/1/tokenization.py.
_CHARACTERS_PER_TOKEN = 250


@dataclass(frozen=True)
class Token:
    """A piece of a text; `start` and `stop` in characters, None for those that the tokenizer adds."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


def check_characters(texts: Sequence[str], limit: int, field: str) -> None:
    """Refuse what is too long for `limit` tokens whatever it consists of, before anybody tokenizes it.

    Raises:
        InvalidInput: names the text and both lengths.
    """
    most = limit * _CHARACTERS_PER_TOKEN
    for index, text in enumerate(texts):
        if len(text) > most:
            raise InvalidInput(
                f"{field}[{index}]: wanted at most {limit} tokens, and so at most {most} characters, got {len(text)} "
                "characters",
                field=field,
            )


def count(tokenizer: Tokenizer, text: str) -> int:
    """How many tokens the whole text has, special tokens included."""
    return len(tokenizer.encode(text).ids)


def pieces(tokenizer: Tokenizer, text: str, special: bool) -> list[Token]:
    """The whole text's tokens, with those around it that the model needs if `special`."""
    encoding = tokenizer.encode(text, add_special_tokens=special)
    columns = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
    return [
        Token(number, name, True, None, None) if added else Token(number, text[start:stop], False, start, stop)
        for number, name, added, (start, stop) in columns
    ]


class ServedTokenizer:
    """The tokenizer of the model that a client reaches."""

    def __init__(self, client: AsyncEmbeddingClient) -> None:
        self._client = client
        self._turn = asyncio.Lock()
        self._loaded: tuple[str, Tokenizer] | None = None

    async def load(self) -> Tokenizer:
        """The tokenizer of the model that is served now; from memory, unless it is another than before."""
        digest = (await self._client.info()).digest
        if self._loaded is None or self._loaded[0] != digest:
            manifest, content = await self._client.tokenizer()
            self._loaded = manifest.digest, await asyncio.to_thread(_parsed, content)
        return self._loaded[1]

    async def each(
        self, tokenizer: Tokenizer, texts: Sequence[str], work: Callable[[Tokenizer, str], Result]
    ) -> AsyncIterator[list[Result]]:
        """What `work` makes of each text, in order, as one list per turn."""
        for turn in _turns(texts):
            async with self._turn:
                done = await asyncio.to_thread(_work_on, tokenizer, turn, work)
            yield done


def _parsed(content: bytes) -> Tokenizer:
    tokenizer = Tokenizer.from_buffer(content)
    # A model's file may carry a limit and padding of its own.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _work_on(tokenizer: Tokenizer, texts: Sequence[str], work: Callable[[Tokenizer, str], Result]) -> list[Result]:
    return [work(tokenizer, text) for text in texts]


def _turns(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Slices of some thousand characters; a text that is longer has a turn of its own."""
    first, characters = 0, 0
    for index, text in enumerate(texts):
        if index > first and characters + len(text) > _CHARACTERS_PER_TURN:
            yield texts[first:index]
            first, characters = index, 0
        # An empty text takes some time, too.
        characters += len(text) + 10
    yield texts[first:]
