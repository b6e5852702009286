"""What is kept and what it costs: the store by itself, and the shim with a cache in front of the real service."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest
from pydantic import ValidationError
from pydantic_settings import CliApp

from client._wire import Cut
from client.rest import Settings, create_app
from client.rest.cache import OVERHEAD_BYTES, VectorCache, from_records, key_of, to_records
from tests.support.service import ROOT, Service
from tests.support.shim import running

MIB = 1024 * 1024


def made_up(count: int, hidden: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(count, hidden)).astype(np.float32), random.integers(2, 512, count).astype(np.int32)


class TestRecords:
    def test_there_and_back(self) -> None:
        vectors, tokens = made_up(5)
        answer = from_records(to_records(vectors, tokens), 8, "sha256:a")
        np.testing.assert_array_equal(answer.vectors, vectors)
        np.testing.assert_array_equal(answer.tokens, tokens)
        assert (answer.vectors.dtype, answer.tokens.dtype, answer.digest) == (np.float32, np.int32, "sha256:a")

    def test_answers_are_copies(self) -> None:
        vectors, tokens = made_up(2)
        records = to_records(vectors, tokens)
        from_records(records, 8, "").vectors[:] = 0
        np.testing.assert_array_equal(from_records(records, 8, "").vectors, vectors)


class TestKey:
    def test_text_and_cut_make_it(self) -> None:
        cuts = [Cut(limit, left) for limit in (2, 12, 128, 512) for left in (False, True)]
        keys = {key_of(text, cut) for text in (b"", b"a", b"b", b"1", b"12") for cut in cuts}
        assert len(keys) == 40
        assert key_of(b"a", Cut(128)) == key_of(b"a", Cut(128))
        assert {len(key) for key in keys} == {24}


class TestVectorCache:
    def test_finds_what_was_kept(self) -> None:
        cache = VectorCache(MIB)
        assert cache.find("m", [b"1", b"2"]) == [None, None]
        cache.keep("m", [b"1"], [b"one"])
        assert cache.find("m", [b"2", b"1"]) == [None, b"one"]
        assert (cache.entries, cache.size_bytes) == (1, 3 + OVERHEAD_BYTES)

    def test_another_model_knows_nothing(self) -> None:
        cache = VectorCache(MIB)
        cache.find("old", [b"1"])
        cache.keep("old", [b"1"], [b"one"])
        assert cache.find("new", [b"1"]) == [None]
        assert cache.entries == 0
        assert cache.find("old", [b"1"]) == [None]

    def test_what_the_old_model_made_comes_too_late(self) -> None:
        cache = VectorCache(MIB)
        cache.find("old", [b"1"])
        cache.find("new", [b"1"])
        cache.keep("old", [b"1"], [b"one"])
        assert cache.find("new", [b"1"]) == [None]

    def test_is_bounded(self) -> None:
        cache = VectorCache(MIB)
        cache.find("m", [])
        for number in range(5000):
            cache.keep("m", [b"%d" % number], [bytes(1000)])
        assert 0.95 * MIB < cache.size_bytes <= MIB
        assert cache.entries == cache.size_bytes // (1000 + OVERHEAD_BYTES)

    def test_texts_that_come_once_do_not_drive_out_those_that_come_again(self) -> None:
        cache = VectorCache(MIB)
        found = 0
        for turn in range(20):
            for keys in ([b"often %d" % number for number in range(300)], [b"%d %d" % (turn, n) for n in range(3000)]):
                missing = [key for key, record in zip(keys, cache.find("m", keys), strict=True) if record is None]
                found += len(keys) - len(missing)
                cache.keep("m", missing, [bytes(1000)] * len(missing))
        # 655 fit, so by age alone none of the 300 would be found after 3,000 others.
        assert found > 0.5 * 19 * 300


# Prints how far a process's resident memory grows while three times what fits is put in.
GROWTH = """
import gc, sys
import numpy as np, psutil
from client._wire import Cut
from client.rest.cache import OVERHEAD_BYTES, VectorCache, key_of, to_records

bound, hidden = int(sys.argv[1]), int(sys.argv[2])
random = np.random.default_rng(0)
vectors, tokens = random.normal(size=(32, hidden)).astype(np.float32), np.full(32, 9, np.int32)
cache = VectorCache(bound)
cache.find("m", [])
process = psutil.Process()
gc.collect()
before = peak = process.memory_info().rss
for start in range(0, 3 * bound // (4 * hidden + OVERHEAD_BYTES), 32):
    cache.keep("m", [key_of(b"%d" % (start + row), Cut(128)) for row in range(32)], to_records(vectors, tokens))
    peak = max(peak, process.memory_info().rss)
print(peak - before, cache.size_bytes)
"""


@pytest.mark.parametrize(
    ("bound_mib", "hidden"),
    [
        (16, 384),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in [(16, 32), (16, 1024), (128, 32), (128, 384), (128, 1024)]
        ),
    ],
)
def test_memory_grows_by_the_bound(bound_mib: int, hidden: int) -> None:
    command = [sys.executable, "-c", GROWTH, str(bound_mib * MIB), str(hidden)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    growth, counted = map(int, done.stdout.split())
    assert counted > 0.99 * bound_mib * MIB
    # Counted honestly: hardly more than it says, and not much less.
    assert 0.75 * bound_mib < growth / MIB < bound_mib + 2


class TestSettings:
    def test_off_by_default(self) -> None:
        assert Settings().cache_bytes == 0

    def test_with_units(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert CliApp.run(Settings, cli_args=["--cache-bytes", "256MiB"]).cache_bytes == 256 * MIB
        monkeypatch.setenv("EMBEDDING_REST_CACHE_BYTES", "1048576")
        assert CliApp.run(Settings, cli_args=[]).cache_bytes == MIB

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"cache_bytes": 1000}, "wanted 0 or at least 1048576"),
            ({"cache_bytes": MIB, "triton_url": "http://127.0.0.1:8000"}, "wanted a grpc:// address"),
            ({"cache_bytes": "much"}, "could not parse"),
            ({"cache_bytes": -1}, "could not parse"),
        ],
    )
    def test_refused(self, values: dict[str, object], message: str) -> None:
        with pytest.raises(ValidationError, match=message):
            Settings(**values)  # type: ignore[arg-type]


@pytest.fixture
def http(service: Service) -> Iterator[httpx.Client]:
    """A shim with a cache, in front of the running service's Triton."""
    with (
        running(create_app(Settings(triton_url=service.grpc_url, cache_bytes=16 * MIB))) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        yield client


def embedded(http: httpx.Client, texts: list[str], **options: object) -> tuple[np.ndarray, int]:
    """The vectors, and how many were hits."""
    answer = http.post("/embedding", json={"texts": texts, **options})
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["embeddings"], np.float32), int(answer.headers["x-cache-hits"])


def embedded_at_triton(service: Service, ask: Callable[[int], object]) -> int:
    """Texts that `bert` runs for `ask`, which gets the number of the try.

    The supervisor's watch asks now and then, too: what it adds is not in all of the tries.
    """

    def texts() -> int:
        statistics = httpx.get(f"{service.http_url}/v2/models/bert/stats").json()
        return int(statistics["model_stats"][0]["inference_count"])

    counts = []
    for number in range(5):
        before = texts()
        ask(number)
        counts.append(texts() - before)
    return min(counts)


@pytest.mark.triton
class TestShim:
    def test_31_known_texts_of_32_cost_one(self, http: httpx.Client, service: Service) -> None:
        texts = [f"text {number} of thirty-one" for number in range(31)]
        first, hits = embedded(http, texts)
        assert hits == 0

        def one_is_new(number: int) -> None:
            new = f"the new text, {number}"
            second, hits = embedded(http, [*texts, new])
            assert hits == 31
            np.testing.assert_array_equal(second[:31], first)
            np.testing.assert_allclose(second[31], embedded(http, [new], max_length=127)[0][0], atol=1e-5)

        # The new one, and the same again with the other limit.
        assert embedded_at_triton(service, one_is_new) == 2

    def test_order_is_kept_among_known_new_and_equal_texts(self, http: httpx.Client, service: Service) -> None:
        expected = {text: vectors for text in "abcdef" for vectors, _ in [embedded(http, [f"the letter {text}"])]}
        with running(create_app(Settings(triton_url=service.grpc_url, cache_bytes=MIB))) as url:
            fresh = httpx.Client(base_url=url, timeout=120)
            embedded(fresh, ["the letter c", "the letter e"])
            vectors, hits = embedded(fresh, [f"the letter {letter}" for letter in "aecbeaccfd"])
            fresh.close()
        assert hits == 5
        for letter, vector in zip("aecbeaccfd", vectors, strict=True):
            np.testing.assert_allclose(vector, expected[letter][0], atol=1e-5)

    def test_equal_texts_of_a_request_are_embedded_once(self, http: httpx.Client, service: Service) -> None:
        # Through the service's own shim, which has no cache.
        def ask(number: int) -> httpx.Response:
            texts = [f"three times the same, {number}"] * 3 + ["other"]
            return httpx.post(f"{service.rest_url}/embedding", json={"texts": texts})

        assert embedded_at_triton(service, ask) == 2
        answer = ask(0)
        vectors = np.array(answer.json()["embeddings"])
        np.testing.assert_array_equal(vectors[0], vectors[2])
        assert np.abs(vectors[0] - vectors[3]).max() > 0.01
        one = httpx.post(f"{service.rest_url}/embedding", json={"texts": ["three times the same, 0", "other"]})
        assert int(answer.headers["x-tokens"]) > int(one.headers["x-tokens"])

    def test_the_token_limit_is_part_of_what_is_asked(self, http: httpx.Client) -> None:
        text = "word " * 200
        long, _ = embedded(http, [text], max_length=128)
        short, hits = embedded(http, [text], max_length=16)
        assert hits == 0
        assert np.abs(long - short).max() > 1e-3

    def test_the_end_that_is_cut_is_part_of_it(self, http: httpx.Client) -> None:
        text = "beginning " * 300 + "end " * 300
        answers = [
            http.post("/embed", json={"inputs": text, "truncation_direction": direction})
            for direction in ("right", "left", "left")
        ]
        assert [answer.headers["x-cache-hits"] for answer in answers] == ["0", "0", "1"]
        right, left, again = (np.array(answer.json()) for answer in answers)
        assert np.abs(right - left).max() > 0.01
        np.testing.assert_array_equal(left, again)

    def test_all_interfaces_share_it(self, http: httpx.Client, service: Service) -> None:
        text = "asked for in every way"
        embedded(http, [text], max_length=256)
        for path, body in (
            ("/embed", {"inputs": text}),
            ("/v1/embeddings", {"input": text, "model": "any", "encoding_format": "float", "dimensions": 100}),
        ):
            answer = http.post(path, json=body)
            assert (answer.status_code, answer.headers["x-cache-hits"]) == (200, "1"), path
        vector = np.array(answer.json()["data"][0]["embedding"])
        raw, hits = embedded(http, [text], max_length=256)
        assert hits == 1
        np.testing.assert_allclose(vector, raw[0, :100] / np.linalg.norm(raw[0, :100]), atol=1e-6)

    def test_metrics(self, http: httpx.Client) -> None:
        embedded(http, ["one", "two"])
        embedded(http, ["two", "three", "two"])
        lines = dict(line.rsplit(" ", 1) for line in http.get("/metrics").text.splitlines() if line[0] != "#")
        assert (lines["embedding_cache_hits_total"], lines["embedding_cache_misses_total"]) == ("2.0", "3.0")
        assert float(lines["embedding_cache_entries"]) == 3
        assert float(lines["embedding_cache_bytes"]) == 3 * (4 + 4 * 384 + OVERHEAD_BYTES)

    def test_scaling_is_not(self, http: httpx.Client) -> None:
        raw, _ = embedded(http, ["to be scaled"])
        unit, hits = embedded(http, ["to be scaled"], normalize=True)
        assert hits == 1
        np.testing.assert_allclose(unit, raw / np.linalg.norm(raw), atol=1e-6)
        # What was done to an answer was not done to what is kept.
        np.testing.assert_array_equal(embedded(http, ["to be scaled"])[0], raw)

    def test_tokens_are_told_of_known_texts_too(self, http: httpx.Client) -> None:
        body = {"texts": ["The cat sits outside", "A man"]}
        told = [http.post("/embedding", json=body).headers for _ in range(2)]
        assert [headers["x-tokens"] for headers in told] == ["10", "10"]
        assert [headers["x-cache-hits"] for headers in told] == ["0", "2"]
        assert told[0]["x-model-digest"] == told[1]["x-model-digest"]
        assert "triton;dur=0.0" in told[1]["server-timing"]

    def test_a_failed_request_keeps_nothing(self, http: httpx.Client) -> None:
        assert http.post("/embedding", json={"texts": ["refused"], "max_length": 10**6}).status_code == 422
        assert embedded(http, ["refused"])[1] == 0

    def test_many_texts_and_all_again(self, http: httpx.Client) -> None:
        texts = [f"{number} bottles" for number in range(1200)]
        first, hits = embedded(http, texts)
        assert hits == 0
        again, hits = embedded(http, texts[::-1])
        assert hits == 1200
        np.testing.assert_array_equal(again, first[::-1])
