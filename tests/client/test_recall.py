"""Which model answers, at the moments between which it can change; a clockwork of a server changes it there.

What a real Triton does when it comes back with another model is in test_cache_models.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from client import AsyncEmbeddingClient, Unavailable
from client._call import Call
from client._wire import Cut, Embeddings
from client.rest.cache import VectorCache
from client.rest.recall import Recall, Recalled

MANIFEST = {
    "model": "m",
    "revision": None,
    "license": None,
    "architecture": "BertModel",
    "precision": "fp32",
    "graph": "packed",
    "pooling": "mean",
    "normalize": False,
    "hidden_size": 4,
    "max_positions": 512,
    "max_sequence_length": 256,
}


class Clockwork:
    """A transport: the model is one character, and its vectors are full of that character's code."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.model = "A"
        self.on_change = on_change
        self.embedded: list[bytes] = []
        self.asked = 0
        self.limits: set[int] = set()
        self.before_manifest_arrives: Callable[[], None] = lambda: None
        self.before_vectors_arrive: Callable[[], None] = lambda: None

    def change(self, model: str) -> None:
        """The server goes away and comes back."""
        self.model = model
        self.on_change()

    async def infer(self, texts: Sequence[bytes], cut: Cut, *_: object) -> Embeddings:
        model = self.model
        self.embedded += texts
        self.limits.add(cut.max_length)
        await asyncio.sleep(0)
        self.before_vectors_arrive()
        count = len(texts)
        return Embeddings(np.full((count, 4), ord(model), np.float32), np.full(count, 3, np.int32))

    async def manifest(self, timeout_s: float) -> bytes:
        self.asked += 1
        manifest = json.dumps({**MANIFEST, "digest": self.model}).encode()
        await asyncio.sleep(0)
        self.before_manifest_arrives()
        return manifest

    async def close(self) -> None:
        pass


@pytest.fixture
def clockwork(monkeypatch: pytest.MonkeyPatch) -> Clockwork:
    made = Clockwork(lambda: None)

    def open_transport(url: str, on_change: Callable[[], None], *_: object) -> Clockwork:
        made.on_change = on_change
        return made

    monkeypatch.setattr("client._client.open_transport", open_transport)
    return made


async def recalling(*turns: Sequence[str] | Callable[[], None], cache_bytes: int = 1 << 20) -> list[Recalled]:
    """Answers to requests; a callable among them is called in its turn."""
    answers = []
    async with AsyncEmbeddingClient("grpc://127.0.0.1:1") as client:
        recall = Recall(client, VectorCache(cache_bytes) if cache_bytes else None)
        for turn in turns:
            if callable(turn):
                turn()
            else:
                answers.append(await recall.embed([text.encode() for text in turn], 128, False, Call()))
    return answers


def models(answer: Recalled) -> set[str]:
    """Whose the vectors are; it must be whose they are said to be."""
    found = set(map(chr, answer.embeddings.vectors.astype(int).ravel().tolist()))
    assert found == {answer.embeddings.digest}
    return found


def test_known_texts_are_not_sent(clockwork: Clockwork) -> None:
    first, second = asyncio.run(recalling(["a", "b", "a"], ["c", "a", "a", "b"]))
    assert clockwork.embedded == [b"a", b"b", b"c"]
    assert [(answer.hits, answer.misses) for answer in (first, second)] == [(0, 3), (3, 1)]
    assert second.embeddings.vectors.shape == (4, 4)
    assert second.embeddings.tokens.tolist() == [3, 3, 3, 3]


def test_without_a_cache_equal_texts_of_a_request_are_sent_once(clockwork: Clockwork) -> None:
    first, second = asyncio.run(recalling(["a", "b", "a"], ["a"], cache_bytes=0))
    assert clockwork.embedded == [b"a", b"b", b"a"]
    assert (first.hits, first.misses, second.hits, second.misses) == (0, 0, 0, 0)
    assert len(first.embeddings.vectors) == 3


def test_the_model_s_own_limit_and_the_same_number_are_the_same(clockwork: Clockwork) -> None:
    async def scenario() -> int:
        async with AsyncEmbeddingClient("grpc://127.0.0.1:1") as client:
            recall = Recall(client, VectorCache(1 << 20))
            await recall.embed([b"a"], None, False, Call())
            return (await recall.embed([b"a"], 256, False, Call())).hits

    assert asyncio.run(scenario()) == 1
    assert clockwork.limits == {256}


def test_another_model_begins_anew(clockwork: Clockwork) -> None:
    answers = asyncio.run(
        recalling(["a"], lambda: clockwork.change("B"), ["a"], ["a"], lambda: clockwork.change("A"), ["a"])
    )
    assert [models(answer) for answer in answers] == [{"A"}, {"B"}, {"B"}, {"A"}]
    assert [answer.hits for answer in answers] == [0, 0, 1, 0]


def test_the_same_model_again_is_still_known(clockwork: Clockwork) -> None:
    answers = asyncio.run(recalling(["a"], lambda: clockwork.change("A"), ["a"]))
    assert [answer.hits for answer in answers] == [0, 1]


def test_the_model_changes_while_new_texts_are_embedded(clockwork: Clockwork) -> None:
    """The old model made them, the new one is there when they arrive, and known ones of the old one wait for them."""

    def once() -> None:
        if len(clockwork.embedded) > 1 and clockwork.model == "A":
            clockwork.change("B")

    clockwork.before_vectors_arrive = once
    with pytest.raises(Unavailable, match="the model changed during the call, from A to B"):
        asyncio.run(recalling(["a"], ["a", "b"]))


def test_the_model_changes_while_the_keys_of_many_known_texts_are_made(clockwork: Clockwork) -> None:
    texts = [str(number) for number in range(2500)]

    async def scenario() -> None:
        async with AsyncEmbeddingClient("grpc://127.0.0.1:1") as client:
            recall = Recall(client, VectorCache(1 << 24))
            encoded = [text.encode() for text in texts]
            assert (await recall.embed(encoded, 128, False, Call())).misses == 2500
            # It gives others a turn after each thousand: here it takes one.
            asyncio.get_running_loop().call_soon(clockwork.change, "B")
            answer = await recall.embed(encoded, 128, False, Call())
            # All of it is of the new one, and the request did not fail.
            assert models(answer) == {"B"}
            assert (answer.hits, len(answer.embeddings.vectors)) == (0, 2500)

    asyncio.run(scenario())


def test_the_other_end_is_lost_without_a_word(clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing tells it, so it is asked: not each time, but after a while."""

    def vanish() -> None:
        clockwork.model = "B"

    def time_passes() -> None:
        monkeypatch.setattr("client.rest.recall._TRUSTED_S", 0.0)

    answers = asyncio.run(recalling(["a"], ["a"], ["a"], vanish))
    assert [answer.hits for answer in answers] == [0, 1, 1]
    assert clockwork.asked == 1
    clockwork.model = "A"
    answers = asyncio.run(recalling(["a"], ["a"], vanish, time_passes, ["a"], ["a"]))
    assert [models(answer) for answer in answers] == [{"A"}, {"A"}, {"B"}, {"B"}]
    assert [answer.hits for answer in answers] == [0, 1, 0, 1]


def test_who_was_gone_before_its_answer_came_is_not_remembered(clockwork: Clockwork) -> None:
    """The old server's last words arrive after the loss of the connection is known."""

    async def scenario() -> list[str]:
        async with AsyncEmbeddingClient("grpc://127.0.0.1:1") as client:
            clockwork.before_manifest_arrives = lambda: clockwork.change("B") if clockwork.model == "A" else None
            return [
                (await client.info()).digest,
                (await client.info()).digest,
                (await client.embed_with_tokens(["a"])).digest,
            ]

    assert asyncio.run(scenario()) == ["A", "B", "B"]
